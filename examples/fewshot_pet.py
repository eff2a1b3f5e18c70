#! -*- coding: utf-8 -*-
"""必须要GPT3吗？不，BERT的MLM模型也能小样本学习 (kexue.fm/archives/7764): 32 labelled texts and the head of a masked LM.

P-tuning：自动构建模版，释放语言模型潜能 (kexue.fm/archives/8295): `soft = True` learns the pattern's tokens instead.
"""

from kexue_keras import models, prompting
from kexue_keras.backend import set_seed
from kexue_keras.data import split_reviews

soft = False
max_length = 64
batch_size = 16
epochs = 6
rows = dict(train=32, valid=32, test=1000)
num_hidden_layers = 12

model_path = "me5-zh-char-mlm"  # bundled with the package
# model_path = "/root/kg/bert/chinese_L-12_H-768_A-12"  # a folder with bert_config.json, bert_model.ckpt.*, vocab.txt
# model_path = "/root/kg/bert/chinese_roformer-char_L-12_H-768_A-12"

set_seed(2021)
train_data, valid_data, test_data = split_reviews(**rows, seed=2021)  # lists of (text, '正面' or '负面')
more_texts = [text for text, _ in split_reviews(train=400, valid=0, test=0, seed=1)[0]]  # no labels

encoder = models.load(model_path, with_mlm="linear", num_hidden_layers=num_hidden_layers)
if soft:
    tokens = ["[unused%d]" % i for i in range(1, 9)]
    pattern = prompting.Pattern("".join(tokens[:4]) + "{mask}" + "".join(tokens[4:]) + "{text}")
else:
    pattern = prompting.Pattern("{mask}满意。{text}")  # <- what the model reads
words = prompting.Verbalizer({"负面": "不", "正面": "很"})  # <- what it may answer
classifier = prompting.PromptClassifier(
    encoder, pattern, words, max_length=max_length, trained="soft_tokens" if soft else "all"
)


def evaluate(data):
    """Share of the texts whose label is right."""
    predicted = classifier.predict([text for text, _ in data])
    return sum(answer == label for answer, (_, label) in zip(predicted, data)) / len(data)


if __name__ == "__main__":
    print("without any training, test accuracy: %.4f" % evaluate(test_data))
    classifier.calibrate(more_texts)  # <- removes the pattern's bias towards some labels
    print("the same, calibrated: %.4f" % evaluate(test_data))
    classifier.calibrate(None)  # in training it would be measured again for each epoch
    classifier.fit(
        train_data,
        more_texts if not soft else None,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=5e-3 if soft else 1e-4,
        valid=valid_data,  # the weights of the best epoch are kept
        say=print,
    )
    print("test accuracy: %.4f" % evaluate(test_data))
