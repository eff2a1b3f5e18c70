"""What a variable is called in a Hugging Face file and in Google's checkpoints, which are the names of bert4keras.

Matrices lie there as [out, in], here as [in, out].
"""


def hf_names(kind, config):
    """Names of all variables that a model of this kind can have, heads included.

    Args:
        kind: 'bert', 'albert', 'electra', 'electra_generator', 'roformer', 't5'.
        config: dict in the words of bert4keras; the numbers of layers are read.

    Returns:
        dict Hugging Face name -> (name in a TensorFlow checkpoint, whether it is transposed).

    >>> hf_names('bert', {'num_hidden_layers': 1})['bert.encoder.layer.0.output.dense.weight']
    ('bert/encoder/layer_0/output/dense/kernel', True)
    """
    table = {}
    if kind == "t5":
        _t5(table, config)
    else:
        _bert(table, kind, config["num_hidden_layers"])
    return table


def _dense(table, theirs, ours):
    table[theirs + ".weight"] = (ours + "/kernel", True)
    table[theirs + ".bias"] = (ours + "/bias", False)


def _norm(table, theirs, ours):
    table[theirs + ".weight"] = (ours + "/gamma", False)
    table[theirs + ".bias"] = (ours + "/beta", False)


def _bert(table, kind, layers):
    theirs = kind.split("_")[0]
    ours = "electra" if kind == "electra" else "bert"
    for part in ("word", "position", "token_type"):
        name = "embeddings.%s_embeddings" % part
        table["%s.%s.weight" % (theirs, name)] = (ours + "/" + name.replace(".", "/"), False)
    _norm(table, theirs + ".embeddings.LayerNorm", ours + "/embeddings/LayerNorm")
    if kind == "albert":
        _albert(table)
        return
    mapping = "electra/embeddings_project" if kind == "electra" else "bert/encoder/embedding_hidden_mapping_in"
    _dense(table, theirs + ".embeddings_project", mapping)
    for i in range(layers):
        there, here = "%s.encoder.layer.%d." % (theirs, i), "%s/encoder/layer_%d/" % (ours, i)
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            _dense(table, there + "attention." + part, here + "attention/" + part.replace(".", "/"))
        _norm(table, there + "attention.output.LayerNorm", here + "attention/output/LayerNorm")
        _dense(table, there + "intermediate.dense", here + "intermediate/dense")
        _dense(table, there + "output.dense", here + "output/dense")
        _norm(table, there + "output.LayerNorm", here + "output/LayerNorm")
    if kind == "electra":
        _dense(table, "discriminator_predictions.dense", "discriminator_predictions/dense")
        _dense(table, "discriminator_predictions.dense_prediction", "discriminator_predictions/dense_1")
        return
    if kind == "electra_generator":
        _dense(table, "generator_predictions.dense", "cls/predictions/transform/dense")
        _norm(table, "generator_predictions.LayerNorm", "cls/predictions/transform/LayerNorm")
        table["generator_lm_head.bias"] = ("cls/predictions/output_bias", False)
        return
    if kind == "roformer":
        table["roformer.encoder.embed_positions.weight"] = ("bert/encoder/embed_positions", False)
    _dense(table, theirs + ".pooler.dense", "bert/pooler/dense")
    _dense(table, "cls.predictions.transform.dense", "cls/predictions/transform/dense")
    _norm(table, "cls.predictions.transform.LayerNorm", "cls/predictions/transform/LayerNorm")
    table["cls.predictions.bias"] = ("cls/predictions/output_bias", False)
    table["cls.seq_relationship.weight"] = ("cls/seq_relationship/output_weights", False)
    table["cls.seq_relationship.bias"] = ("cls/seq_relationship/output_bias", False)


def _albert(table):
    _dense(table, "albert.encoder.embedding_hidden_mapping_in", "bert/encoder/embedding_hidden_mapping_in")
    there = "albert.encoder.albert_layer_groups.0.albert_layers.0."
    here = "bert/encoder/transformer/group_0/inner_group_0/"
    for part in ("query", "key", "value"):
        _dense(table, there + "attention." + part, here + "attention_1/self/" + part)
    _dense(table, there + "attention.dense", here + "attention_1/output/dense")
    _norm(table, there + "attention.LayerNorm", here + "LayerNorm")
    _dense(table, there + "ffn", here + "ffn_1/intermediate/dense")
    _dense(table, there + "ffn_output", here + "ffn_1/intermediate/output/dense")
    _norm(table, there + "full_layer_layer_norm", here + "LayerNorm_1")
    table["albert.pooler.weight"] = ("bert/pooler/dense/kernel", True)
    table["albert.pooler.bias"] = ("bert/pooler/dense/bias", False)
    _dense(table, "predictions.dense", "cls/predictions/transform/dense")
    _norm(table, "predictions.LayerNorm", "cls/predictions/transform/LayerNorm")
    table["predictions.bias"] = ("cls/predictions/output_bias", False)
    table["sop_classifier.classifier.weight"] = ("cls/seq_relationship/output_weights", False)
    table["sop_classifier.classifier.bias"] = ("cls/seq_relationship/output_bias", False)


def _t5(table, config):
    table["shared.weight"] = ("shared/embedding", False)
    table["lm_head.weight"] = ("decoder/logits/kernel", True)
    counts = {"encoder": config["num_hidden_layers"]}
    counts["decoder"] = config.get("num_decoder_layers") or counts["encoder"]
    for part, layers in counts.items():
        table[part + ".final_layer_norm.weight"] = (part + "/final_layer_norm/scale", False)
        sublayers = ["SelfAttention", "EncDecAttention"][: 1 + (part == "decoder")] + ["DenseReluDense"]
        for i in range(layers):
            for j, sublayer in enumerate(sublayers):
                there, here = "%s.block.%d.layer.%d." % (part, i, j), "%s/block_%03d/layer_%03d/" % (part, i, j)
                table[there + "layer_norm.weight"] = (here + "layer_norm/scale", False)
                if sublayer == "DenseReluDense":
                    for name in ("wi", "wi_0", "wi_1", "wo"):
                        table["%s%s.%s.weight" % (there, sublayer, name)] = (
                            here + sublayer + "/%s/kernel" % name,
                            True,
                        )
                    continue
                for name in "qkvo":
                    table["%s%s.%s.weight" % (there, sublayer, name)] = (here + sublayer + "/" + name, True)
                if i == 0 and j == 0:
                    bias = sublayer + "%srelative_attention_bias"
                    table[there + bias % "." + ".weight"] = (here + bias % "/", True)


def hf_needless(kind, name):
    """Whether a variable of a Hugging Face file says nothing: numbers of positions, tables that were never used.

    >>> hf_needless('bert', 'bert.embeddings.position_ids'), hf_needless('bert', 'bert.pooler.dense.bias')
    (True, False)
    """
    if name.endswith((".position_ids", ".token_type_ids")):
        return True
    # A table that T5's first release carries and never used; the library that wrote it ignores it too.
    return kind == "t5" and name.endswith("EncDecAttention.relative_attention_bias.weight")


def hf_copies(kind, config):
    """Dict of names of tied copies -> what they must equal; a copy that differs is another architecture.

    >>> hf_copies('bert', {})['cls.predictions.decoder.bias']
    'cls.predictions.bias'
    """
    if kind == "t5":
        copies = {part + ".embed_tokens.weight": "shared.weight" for part in ("encoder", "decoder")}
        if config.get("tie_word_embeddings"):
            copies["lm_head.weight"] = "shared.weight"
        return copies
    words = kind.split("_")[0] + ".embeddings.word_embeddings.weight"
    if kind == "electra":
        return {}
    if kind == "electra_generator":
        return {"generator_lm_head.weight": words}
    head = "predictions." if kind == "albert" else "cls.predictions."
    return {head + "decoder.weight": words, head + "decoder.bias": head + "bias"}
