"""The index of techniques, docs/techniques.md and its Chinese counterpart: a card for each, from the catalogue."""

import importlib.util
import os
import posixpath

from repository import ROOT

ENGLISH, CHINESE = 0, 1
# Folder of the page -> heading; pages that lie in docs/ itself are of tasks.
PARTS = (
    ("optimizers", ("Optimizers", "优化器")),
    ("training", ("Training", "训练")),
    ("losses", ("Losses", "损失函数")),
    ("regularizers", ("Regularizers", "正则化")),
    ("layers", ("Layers", "层")),
    ("models", ("Models", "模型")),
    ("checkpoints", ("Weights", "权重")),
    ("finetune", ("Tasks", "任务")),
    ("", ("Capabilities", "综合能力")),
    ("analysis", ("Analysis", "分析")),
)
NAMES = {
    1: "梯度累积：套在任意优化器外，与大批次精确一致",
    2: "隐藏在动量中的梯度累积，不占额外内存",
    3: "对比学习的梯度累积（梯度缓存）",
    4: "重计算：用时间换显存",
    5: "混合精度与 XLA",
    6: "指数梯度与可学习的步长",
    7: "WEISSI：不受权重尺度偏移影响的正则",
    8: "AdamW（计数有序）、Lookahead、EMA、分层学习率、学习率调度",
    9: "FlatNCE 与 InfoNCE",
    10: "多标签 softmax 交叉熵（ZLPR）：硬标签、稀疏、软标签",
    11: "“n 个 m 分类”的统一损失",
    12: "直接训练准确率（EXACT）",
    13: "R-Drop",
    14: "PET 与 P-tuning：用 MLM 做小样本学习",
    15: "SimBERT、RoFormer-Sim、CoSENT、SimCSE",
    16: "对抗训练、梯度惩罚、虚拟对抗训练",
    17: "多任务学习：损失加权、梯度处理、主次任务",
    18: "DeepNet：一千层的 Transformer",
    19: "熵不变性 Attention（log n 缩放）",
    20: "概率分布的熵归一化",
    21: "SquarePlus、狄拉克光滑化、SAU",
    22: "Synthesizer",
    23: "不用注意力的混合层：MLP-Mixer、ResMLP、gMLP、aMLP、External Attention、FNet、卷积",
    24: "从重参数的角度看离散分布（PerturbMax）",
    25: "Johnson-Lindenstrauss 引理：投影、哈希、维度",
    26: "UniVAE",
    27: "无损放大训练好的模型",
    28: "TeaForN：向前看 N 步的 Teacher Forcing",
    29: "T5 与 mT5：加载、精简词表",
    30: "ALBERT 与 ELECTRA：它们做到了什么，没做到什么",
    31: "小学数学应用题（Ape210K）",
    32: "RNN 的梯度",
    33: "语言模型“无法预测的词”",
    34: "logsumexp 的不等式",
    35: "输入梯度惩罚与参数梯度惩罚",
    36: "带缓存的批量解码",
    37: "权重互转：TensorFlow 检查点、Hugging Face 目录、自带模型",
    38: "命名实体识别：GlobalPointer、Efficient GlobalPointer、CRF",
}


def techniques():
    """The list of kexue_keras.catalogue, read without the package, which needs TensorFlow."""
    path = os.path.join(ROOT, "kexue_keras", "catalogue", "_techniques.py")
    spec = importlib.util.spec_from_file_location("techniques_of_the_catalogue", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TECHNIQUES


def card(technique, language):
    """A heading that leads to the page, articles, public names."""
    title = technique.title
    if language == CHINESE:
        title = NAMES.get(technique.number) or technique.chinese or technique.title
    lines = ["### [%s](%s)" % (title, technique.docs), ""]
    link = "[%s](https://kexue.fm/archives/%d)"
    # The title in the list is that of the first article.
    titles = [technique.chinese] + [""] * len(technique.articles)
    links = [
        link % (title or "kexue.fm/archives/%d" % number, number) for title, number in zip(titles, technique.articles)
    ]
    if links:
        article, between = (("Article: ", ", "), ("文章：", "、"))[language]
        lines.append("- " + article + between.join(links))
    names = ("In the package: ", "接口：")[language]
    lines.append("- " + names + (", ", "、")[language].join("`%s`" % name for name in technique.names))
    return "\n".join(lines) + "\n"


def cards(language):
    """All cards, by the folders of their pages."""
    text = []
    for folder, title in PARTS:
        found = [t for t in techniques() if posixpath.dirname(t.docs) == folder]
        if found:
            text.append("## %s\n" % title[language])
            text += [card(technique, language) for technique in found]
    return "\n".join(text)


def faults(pages, listed):
    """What is wrong with pages of techniques, as sentences.

    Args:
        pages: dict page -> text, at least those of docs/.
        listed: pages of the navigation.
    """
    index = pages.get("techniques.md", "")
    for technique in techniques():
        name = "technique %d (%s)" % (technique.number, technique.title)
        if technique.docs not in pages:
            yield "%s has no page docs/%s" % (name, technique.docs)
        elif technique.docs not in listed:
            yield "%s: docs/%s is not in the nav of mkdocs.yml" % (name, technique.docs)
        if "](%s)" % technique.docs not in index:
            yield "%s is not in docs/techniques.md; run `make docs-pages`" % name
