#! -*- coding: utf-8 -*-
"""SimBERTv2来了！融合检索和生成的RoFormer-Sim模型 (kexue.fm/archives/8454).

Paraphrase a question with the bundled RoFormer-Sim, or your own. Half a minute on two cores.
"""

from kexue_keras.similarity import SimilarQuestions

max_length = 32
num_hidden_layers = None  # None: all
samples = 100  # per question
min_score = 0.85  # below this the texts are off topic
min_edits = 2  # below this the texts are near copies

model_path = "roformer-sim-zh-small"  # bundled with the package
# model_path = "/root/kg/bert/chinese_roformer-sim-char_L-12_H-768_A-12"

asked = ["怎么办理信用卡？", "怎样才能快速减肥？", "北京到上海坐高铁要多久"]

questions = SimilarQuestions(model_path, max_length=max_length, num_hidden_layers=num_hidden_layers)  # <-

if __name__ == "__main__":
    found = questions.generate(asked, n=samples, k=5, min_score=min_score, min_edits=min_edits)
    for text, similar in zip(asked, found):
        print(text)
        for question in similar:
            print("    %.3f  %s" % (question.score, question.text))
