"""The list of techniques: number, what it is, article, public names, documentation page.

`kexue-keras list` and the tables of both READMEs are made from it; what works is found out by looking for the
names, so that the table cannot promise what is not there.
"""

import importlib
from collections import namedtuple

Technique = namedtuple("Technique", "number title chinese articles names docs")

TECHNIQUES = [
    Technique(*row)
    for row in [
        (
            1,
            "Exact gradient accumulation around any optimizer",
            "用时间换取效果：Keras梯度累积优化器",
            (6794,),
            ("optimizers.GradientAccumulation",),
            "optimizers/gradient-accumulation.md",
        ),
        (
            2,
            "Accumulation hidden in the momentum, no extra memory",
            "隐藏在动量中的梯度累积：少更新几步，效果反而更好？",
            (8634,),
            ("optimizers.MomentumAccumulationSGD", "optimizers.MomentumAccumulationAdamW"),
            "optimizers/momentum-accumulation.md",
        ),
        (
            3,
            "Gradient accumulation for contrastive losses",
            "对比学习可以使用梯度累积吗？",
            (8471,),
            ("training.gradient_cache.GradientCache",),
            "training/gradient-cache.md",
        ),
        (
            4,
            "Recompute: time for memory",
            "节省显存的重计算技巧也有了Keras版了",
            (7367,),
            ("training.recompute.recompute", "models.extend_with_recompute"),
            "training/recompute.md",
        ),
        (
            5,
            "Mixed precision and XLA",
            "在bert4keras中使用混合精度和XLA加速训练",
            (9059,),
            (
                "training.precision.enable_mixed_precision",
                "training.precision.enable_xla",
                "tuning.find_fastest",
                "training.precision.LossScale",
                "training.precision.scale_loss",
                "training.precision.precision_report",
                "training.precision.fp16_lint",
            ),
            "training/precision.md",
        ),
        (
            6,
            "Exponentiated gradient and learned step sizes",
            "指数梯度下降 + 元学习 = 自适应学习率",
            (8968,),
            ("optimizers.ExponentiatedGradient", "optimizers.ExponentiatedStepSize"),
            "optimizers/exponentiated-gradient.md",
        ),
        (
            7,
            "WEISSI: regularisation that ignores scale shifts",
            "L2正则没有想象那么好？可能是“权重尺度偏移”惹的祸",
            (7681,),
            ("regularizers.WEISSI", "regularizers.add_weissi"),
            "regularizers/weissi.md",
        ),
        (
            8,
            "AdamW with an ordered counter, Lookahead, EMA, layer-wise rates, schedules",
            "",
            (),
            (
                "optimizers.AdamW",
                "optimizers.Lookahead",
                "optimizers.ExponentialMovingAverage",
                "optimizers.LayerwiseLearningRate",
                "optimizers.PiecewiseLinear",
            ),
            "optimizers/adamw.md",
        ),
        (
            9,
            "FlatNCE and InfoNCE",
            "FlatNCE：小批次对比学习效果差的原因竟是浮点误差？",
            (8586,),
            ("losses.FlatNCE", "losses.InfoNCE", "losses.flat_nce"),
            "losses/flatnce.md",
        ),
        (
            10,
            "Multi-label softmax cross-entropy (ZLPR): hard, sparse, soft",
            "将“Softmax+交叉熵”推广到多标签分类问题",
            (7359, 9064, 9039),
            (
                "losses.multilabel_crossentropy",
                "losses.sparse_multilabel_crossentropy",
                "losses.MultilabelCrossentropy",
                "losses.multilabel_kl",
                "losses.multilabel_probabilities",
                "losses.decode_multilabel",
                "losses.pairwise_multilabel_crossentropy",
                "losses.combination_crossentropy",
            ),
            "losses/multilabel-crossentropy.md",
        ),
        (
            11,
            "n m-way classifications in one loss",
            "不成功的尝试：将多标签交叉熵推广到“n个m分类”上去",
            (9158,),
            ("losses.multi_softmax_crossentropy",),
            "losses/multi-softmax-crossentropy.md",
        ),
        (
            12,
            "Training the accuracy itself (EXACT)",
            "如何训练你的准确率？",
            (9098,),
            ("losses.ExactAccuracy", "losses.soft_accuracy"),
            "losses/exact-accuracy.md",
        ),
        (
            13,
            "R-Drop",
            "又是Dropout两次！这次它做到了有监督任务的SOTA",
            (8496,),
            ("losses.RDropCrossentropy", "training.rdrop"),
            "losses/rdrop.md",
        ),
        (
            14,
            "PET and P-tuning: few-shot learning with the MLM head",
            "必须要GPT3吗？不，BERT的MLM模型也能小样本学习",
            (7764, 8295),
            (
                "prompting.PromptClassifier",
                "prompting.Pattern",
                "prompting.Verbalizer",
                "layers.PTuningEmbedding",
                "losses.MaskedCrossentropy",
            ),
            "prompting.md",
        ),
        (
            15,
            "SimBERT, RoFormer-Sim, CoSENT, SimCSE",
            "CoSENT（一）：比Sentence-BERT更有效的句向量方案",
            (7427, 8454, 8541, 8847, 8348),
            (
                "similarity.SentenceEncoder",
                "similarity.SimilarQuestions",
                "losses.CoSENT",
                "losses.SimilarityDistillation",
                "finetune.SimBERT",
                "finetune.train_sentence_bert",
            ),
            "similarity.md",
        ),
        (
            16,
            "Adversarial training, gradient penalty, virtual adversarial training",
            "对抗训练浅谈：意义、方法和思考（附Keras实现）",
            (7234, 7466),
            (
                "training.adversarial.FGM",
                "training.adversarial.GradientPenalty",
                "training.adversarial.VirtualAdversarial",
            ),
            "training/fgm.md",
        ),
        (
            17,
            "Multi-task learning: loss weights, gradients, main and auxiliary",
            "多任务学习漫谈（一）：以损失之名",
            (8870, 8896, 8907),
            ("losses.combine_losses", "optimizers.MultiTask"),
            "losses/combine-losses.md",
        ),
        (
            18,
            "DeepNet: a thousand layers",
            "训练1000层的Transformer究竟有什么困难？",
            (8978,),
            ("layers.DeepNormAdd", "models.extend_with_deepnorm", "layers.deepnorm_constants"),
            "layers/deepnorm.md",
        ),
        (
            19,
            "Entropy-invariant attention (log n)",
            "从熵不变性看Attention的Scale操作",
            (8823, 9034),
            ("layers.EntropyInvariantAttention", "layers.attention_entropy"),
            "layers/entropy-invariant-attention.md",
        ),
        (
            20,
            "Entropy normalisation",
            "",
            (8829,),
            ("layers.EntropyNormalization", "decoding.to_entropy"),
            "layers/entropy-normalization.md",
        ),
        (
            21,
            "SquarePlus, Dirac-smoothed functions, SAU",
            "SquarePlus：可能是运算最简单的ReLU光滑近似",
            (8833, 8718),
            ("layers.SquarePlus", "layers.smooth", "layers.SAU"),
            "layers/smooth-activations.md",
        ),
        (
            22,
            "Synthesizer",
            "Google新作Synthesizer：我们还不够了解自注意力",
            (7430,),
            ("layers.SynthesizerAttention", "models.extend_with_synthesizer"),
            "layers/synthesizer.md",
        ),
        (
            23,
            "Mixers without attention: MLP-Mixer, ResMLP, gMLP, aMLP, External Attention, FNet, convolutions",
            "",
            (8431,),
            ("layers.mixing", "models.extend_with_mixer"),
            "layers/mixing.md",
        ),
        (
            24,
            "Distributions by reparameterisation",
            "",
            (9085,),
            ("layers.PerturbMax",),
            "layers/perturb-max.md",
        ),
        (
            25,
            "Johnson-Lindenstrauss: projection, hashing, dimensions",
            "让人惊叹的Johnson-Lindenstrauss引理：理论篇",
            (8679, 8706, 8711, 7695),
            ("layers.RandomProjection", "layers.SimHash", "analysis.dimensions"),
            "analysis/dimensions.md",
        ),
        (
            26,
            "UniVAE",
            "UniVAE：基于Transformer的单模型、多尺度的VAE模型",
            (8475, 8404),
            (
                "models.UniVAE",
                "decoding.LatentTexts",
                "layers.VonMisesFisherSampling",
                "layers.GaussianSampling",
                "layers.VectorQuantization",
                "losses.TextAutoencoderLoss",
            ),
            "models/univae.md",
        ),
        (
            27,
            "Lossless enlargement of a trained model",
            "无损放大的Transformer模型",
            (8444,),
            ("models.enlarge", "models.check_lossless"),
            "models/growth.md",
        ),
        (
            28,
            "TeaForN: teacher forcing that looks N steps ahead",
            "TeaForN：让Teacher Forcing更有“远见”一些",
            (7818,),
            ("losses.TeaForN", "models.build_teaforn_model"),
            "models/teaforn.md",
        ),
        (
            29,
            "T5 and mT5: loading, vocabulary trimming",
            "那个屠榜的T5模型，现在可以在中文上玩玩了",
            (7867,),
            ("checkpoints.load_t5", "checkpoints.trim_sentencepiece"),
            "checkpoints/t5.md",
        ),
        (
            30,
            "ALBERT and ELECTRA: what they do and don't do",
            "",
            (7846,),
            ("analysis.costs", "models.ElectraPretraining"),
            "analysis/costs.md",
        ),
        (
            31,
            "Math word problems (Ape210K)",
            "BERT可以上几年级了？Seq2Seq“硬刚”小学数学应用题",
            (7809,),
            ("finetune.math_word_problems",),
            "finetune/math-word-problems.md",
        ),
        (
            32,
            "Gradients of recurrent nets",
            "也来谈谈RNN的梯度消失/爆炸问题",
            (7888,),
            ("analysis.rnn_gradient_profile", "layers.OutputGateGRU", "layers.TiedGRU"),
            "analysis/rnn-gradients.md",
        ),
        (
            33,
            "Words that a language model can never predict",
            "你的语言模型有没有“无法预测的词”？",
            (9046,),
            ("analysis.find_unargmaxable", "analysis.minimax_margin", "analysis.output_layer"),
            "analysis/unargmaxable.md",
        ),
        (
            34,
            "logsumexp inequalities",
            "logsumexp运算的几个不等式",
            (9070,),
            ("analysis.logsumexp_bounds", "analysis.smooth_max"),
            "analysis/logsumexp.md",
        ),
        (
            35,
            "Input and parameter gradient penalties",
            "输入梯度惩罚与参数梯度惩罚的一个不等式",
            (8796,),
            ("analysis.gradient_inequality",),
            "analysis/gradient-inequality.md",
        ),
        (36, "Fast, cached, batched decoding", "", (), ("decoding",), "decoding.md"),
        (
            37,
            "Weights from TensorFlow checkpoints, Hugging Face folders and bundled models, and back",
            "",
            (),
            ("models.load", "models.save", "checkpoints.convert"),
            "checkpoints/weights.md",
        ),
    ]
]


def find(name):
    """The public object `name`, given relative to the package ('losses.FlatNCE'), or None if there is none yet.

    >>> find('models.load').__name__
    'load'
    >>> find('losses.NoSuchLoss') is None
    True
    """
    package, _, attribute = name.rpartition(".")
    try:
        module = importlib.import_module("kexue_keras" + (package and "." + package))
    except ImportError:
        return None
    return getattr(module, attribute, None)


def missing_names(technique):
    """Those of the technique's public names that do not exist yet."""
    return [name for name in technique.names if find(name) is None]


def exists(technique):
    """Whether all of the technique's public names exist."""
    return not missing_names(technique)


def search(word=""):
    """The techniques whose title, Chinese title, article number or public names contain `word` (any case).

    >>> [technique.number for technique in search('flatnce')]
    [9]
    """
    word = str(word).lower()
    return [t for t in TECHNIQUES if word in " ".join(map(str, (t.title, t.chinese, t.articles, t.names))).lower()]


def article_links(technique):
    """Markdown links to the technique's articles."""
    return ", ".join("[%d](https://kexue.fm/archives/%d)" % (number, number) for number in technique.articles)


def markdown_table():
    """The table of techniques as it stands in the READMEs: a tick where everything named exists."""
    lines = ["| | technique | article | in `kexue_keras` |", "|---|---|---|---|"]
    for t in TECHNIQUES:
        names = ", ".join("`%s`" % name for name in t.names)
        done = exists(t)
        title = "[%s](docs/%s)" % (t.title, t.docs) if done else t.title
        lines.append("| %s | %s | %s | %s |" % ("✓" if done else " ", title, article_links(t), names))
    return "\n".join(lines)
