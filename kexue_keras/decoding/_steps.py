"""The model as decoding uses it: the source is read once, then each step computes one new token of every beam."""

import tensorflow as tf

from kexue_keras.backend import K, tf1
from kexue_keras.decoding import _attention as attention
from kexue_keras.decoding._evaluation import Evaluation, dense, fused, gates, is_gated, together


class Source(object):
    """What is known before the first token: placeholders, and the keys and values made of them.

    Args:
        structure: `Structure`.
        from_context: the encoder's output is fed instead of its tokens.

    Attributes:
        feeds: list of placeholders in the order of the user's inputs.
        lengths: placeholder int32 `[batch]`.
        batch: scalar tensor.
    """

    def __init__(self, structure, from_context=False):
        self.structure = structure
        self.lengths = tf1.placeholder("int32", [None])
        self.batch = tf.size(self.lengths)
        self._memories, self._visible, self._shared = {}, None, {}
        if structure.context is None:
            self._read_prompt()
        else:
            self._read_encoder_input(from_context)

    def _read_prompt(self):
        s = self.structure
        self.tokens = tf1.placeholder("int32", [None, None])
        self.segments = None if s.segments is None else tf1.placeholder("int32", [None, None])
        length = tf.shape(self.tokens)[1]
        columns = tf.range(length)
        seen = self._seen(self.tokens, s.mask_zero)
        if s.rule == "lm":
            allowed = (columns[None, :] <= columns[:, None])[None]
        else:
            order = tf.cumsum(self.segments, axis=1)
            allowed = order[:, None, :] <= order[:, :, None]
        penalty = attention.hidden((allowed & seen[:, None, :])[:, None])
        given = {id(s.tokens): tf.reshape(self.tokens, [-1])}
        if s.segments is not None:
            given[id(s.segments)] = tf.reshape(self.segments, [-1])
        extra = self._placeholders(s.given)
        given.update({id(t): tf.repeat(p, length, axis=0) for t, p in zip(s.given, extra)})
        self._shared = {id(t): p for t, p in zip(s.given, extra)}
        self.feeds = [x for x in (self.tokens, self.segments) if x is not None] + extra
        positions = tf.tile(columns, [self.batch])

        def attend(call, rows, rotary):
            memory = self._memory(call, rows[1:], rotary)
            turn = None if rotary is None else attention.rotation(rotary)
            query = attention.rotate(dense(call.layer.q_dense, rows[0]), turn, call.layer.heads)
            query = attention.split_heads(query, self.batch, call.layer.heads)
            return attention.attend(call.layer, query, [memory], penalty)

        evaluation = Evaluation(s, given, positions=positions, attend=attend)
        # Only the last attention's keys are needed, not what it makes of them.
        for call in s.self_attentions:
            needed = evaluation.compute(s.needs(call))
            self._memory(call, needed[1:3], needed[3] if len(needed) > 3 else None)
        self._visible = seen[:, None, :]

    def _read_encoder_input(self, from_context):
        s = self.structure
        if from_context or s.fed_context is not None:
            others = s.inputs_of([s.logits], stop=[s.context])
            others = [t for t in others if t is not s.fed_context]
            extra = self._placeholders(others)
            context = tf1.placeholder(K.floatx(), [None, None, int(s.context.shape[-1])])
            seen = tf.sequence_mask(self.lengths, tf.shape(context)[1])
            if s.masks_context:
                seen &= tf.reduce_any(tf.not_equal(context, 0.0), axis=-1)
            self.feeds = [context] + extra
            rows = tf.reshape(context, [-1, int(s.context.shape[-1])])
        else:
            tokens = tf1.placeholder("int32", [None, None])
            length = tf.shape(tokens)[1]
            first, others = s.encoder_tokens, [t for t in s.given if t is not s.encoder_tokens]
            extra = self._placeholders(others)
            self.feeds = [tokens] + extra
            seen = self._seen(tokens, s.masks_zero(first))
            given = {id(first): tf.reshape(tokens, [-1])}
            given.update({id(t): tf.repeat(p, length, axis=0) for t, p in zip(others, extra)})
            penalty = attention.hidden(seen[:, None, None, :])

            def attend(call, x, rotary):
                turn = None if rotary is None else attention.rotation(rotary)
                query, keys = (
                    attention.rotate(dense(part, rows), turn, call.layer.heads)
                    for part, rows in ((call.layer.q_dense, x[0]), (call.layer.k_dense, x[1]))
                )
                values = dense(call.layer.v_dense, x[2])
                query, keys, values = (
                    attention.split_heads(rows, self.batch, call.layer.heads) for rows in (query, keys, values)
                )
                memory = (keys, values, bias_of(s, call, length, length))
                return attention.attend(call.layer, query, [memory], penalty)

            evaluation = Evaluation(s, given, positions=tf.tile(tf.range(length), [self.batch]), attend=attend)
            (rows,) = evaluation.compute([s.context])
        self._shared = {id(t): p for t, p in zip(others, extra)}
        self._visible = seen[:, None, :]
        for call in s.cross_attentions:
            self._memory(call, [rows, rows], None)

    def _placeholders(self, tensors):
        return [tf1.placeholder(K.floatx(), [None] + [int(d) for d in t.shape[1:]]) for t in tensors]

    def _seen(self, tokens, mask_zero):
        """Which tokens may be looked at: those within the length, and not 0, but the first always."""
        seen = tf.sequence_mask(self.lengths, tf.shape(tokens)[1])
        if mask_zero:
            first = tf.equal(tf.range(tf.shape(tokens)[1]), 0)[None]
            seen &= tf.not_equal(tokens, 0) | first
        return seen

    def _memory(self, call, rows, rotary):
        """Keys and values of the source for one attention, computed once."""
        key = id(call.outputs[0])
        if key not in self._memories:
            layer = call.layer
            turn = None if rotary is None else attention.rotation(rotary)
            keys = attention.rotate(dense(layer.k_dense, rows[0]), turn, layer.heads)
            both = (keys, dense(layer.v_dense, rows[1]))
            self._memories[key] = tuple(attention.split_heads(x, self.batch, layer.heads) for x in both) + (None,)
        return self._memories[key]

    def memory(self, call):
        """(keys, values, None) of the source for an attention; None if it does not look at the source."""
        return self._memories.get(id(call.outputs[0]))

    def visible(self):
        """bool `[batch, 1, length]`."""
        return self._visible

    def shared(self, times):
        """Dict id of a model's tensor -> rows for the layers that take it beside the tokens, each row `times` times."""
        return {key: tf.repeat(value, times, axis=0) for key, value in self._shared.items()}


def bias_of(structure, call, queries, keys):
    """T5's position bias of an attention for all pairs: `[1, heads, queries, keys]`, or None."""
    if call.arguments.get("p_bias") != "t5_relative":
        return None
    layer = structure.maker(structure.position_bias(call)).layer
    table = layer.call([tf.zeros([1, queries]), tf.zeros([1, keys])])
    return tf.transpose(table, [2, 0, 1])[None]


class Steps(object):
    """One step of decoding after the other.

    Args:
        structure: `Structure`.
        source: `Source`.
        beams: scalar tensor, tokens of each row in a step.
        time: scalar tensor, number of steps at most.
        start: scalar tensor, the token to begin with; negative: the last one of the source.
        segment: scalar tensor, segment id of generated tokens.
    """

    def __init__(self, structure, source, *, beams, time, start, segment):
        self.structure, self.source = structure, source
        self.batch, self.beams, self.time = source.batch, beams, time
        self.shape = (source.batch, time, beams)
        self.segment = segment
        self.has_start = start >= 0
        prompt = structure.context is None
        last = tf.fill([self.batch], start)
        self.offset = tf.zeros([self.batch], "int32")
        self.last_segments = None
        if prompt:
            at = tf.stack([tf.range(self.batch), source.lengths - 1], axis=1)
            last = tf.where(self.has_start, last, tf.gather_nd(source.tokens, at))
            self.offset = source.lengths - tf.where(self.has_start, 0, 1)
            if source.segments is not None:
                self.last_segments = tf.gather_nd(source.segments, at)
        self.first = tf.tile(last[:, None], tf.stack([1, beams]))
        self.given = source.shared(beams)
        self.biases = {}
        length = tf.shape(source.visible())[2]
        for call in structure.self_attentions + structure.cross_attentions:
            maker = structure.position_bias(call)
            if call.arguments.get("p_bias") == "t5_relative" and id(maker) not in self.biases:
                keys = length if call in structure.cross_attentions else time
                self.biases[id(maker)] = bias_of(structure, call, time, keys)
        # Made once here, not at every step: a transposed table multiplies three times as fast, and q, k, v as one.
        self.prepared = {}
        for call in structure.calls:
            if call.arguments.get("mode") == "dense":
                self.prepared[id(call.layer)] = tf.transpose(call.layer.embeddings)
            elif structure.stepped(call.outputs[0]) and is_gated(call.layer):
                self.prepared[id(call.layer)] = fused(gates(call.layer))
        self.projections = {}
        for call in structure.self_attentions:
            layer = call.layer
            if id(layer) not in self.projections and all(x is call.inputs[0] for x in call.inputs[1:3]):
                self.projections[id(layer)] = fused([layer.q_dense, layer.k_dense, layer.v_dense])

    def empty(self):
        """Loop variables: a list of tensors, two an attention."""
        kept = [attention.SelfMemory.empty(c.layer, self.shape, K.floatx()) for c in self.structure.self_attentions]
        return [x for memory in kept for x in (memory.keys, memory.values)]

    def no_ancestors(self):
        """int32 `[batch, beams, time]`, -1: nothing to see yet."""
        return tf.fill(tf.stack([self.batch, self.beams, self.time]), -1)

    def __call__(self, t, tokens, memories, ancestors):
        """Logits `[batch, beams, vocabulary]` after `tokens`, and the loop variables after this step.

        Args:
            t: scalar int32, number of this step from 0.
            tokens: int32 `[batch, beams]`.
            memories: list, see `empty`.
            ancestors: int32 `[batch, beams, time]`, the slot of each beam's token of each time; -1 is out of sight.
        """
        s = self.structure
        # The last token of the source has its keys there; a start token is seen even if it is 0, as in the model.
        seen = tf.ones_like(tokens, "bool")
        if s.mask_zero:
            seen = tf.not_equal(tokens, 0)
            if s.context is not None:
                seen |= tf.equal(t, 0)
        seen &= (t > 0) | self.has_start
        slots = tf.where(seen, tf.zeros_like(tokens) + tf.range(self.beams)[None], -tf.ones_like(tokens))
        now = tf.one_hot(t, self.time, on_value=True, off_value=False)
        ancestors = tf.where(
            tf.broadcast_to(now[None, None], tf.shape(ancestors)),
            tf.broadcast_to(slots[:, :, None], tf.shape(ancestors)),
            ancestors,
        )
        past = tf.reshape(
            tf.one_hot(ancestors, self.beams, on_value=True, off_value=False),
            tf.stack([self.batch, self.beams, self.time * self.beams]),
        )
        there = self.source.visible()
        cross = attention.hidden(there[:, None])
        if s.context is None:
            there = tf.broadcast_to(there, tf.stack([self.batch, self.beams, tf.shape(there)[2]]))
            past = tf.concat([there, past], axis=-1)
        penalty = attention.hidden(past)[:, None]
        if s.rule == "univae":
            closed = attention.hidden(tf.concat([tf.zeros_like(there), past[:, :, tf.shape(there)[2] :]], axis=-1))
        rows = dict(self.given)
        if s.context is not None:
            rows[id(s.context)] = None  # its keys and values are there
        rows[id(s.tokens)] = tf.reshape(tokens, [-1])
        if s.segments is not None:
            segments = tf.fill([self.batch], self.segment)
            segments = tf.where(tf.fill([self.batch], (t > 0) | self.has_start), segments, self.last_segments)
            rows[id(s.segments)] = tf.repeat(segments, self.beams, axis=0)
        positions = tf.repeat(self.offset + t, self.beams, axis=0)
        after, turns = {}, {}
        shape = self.shape
        before = {
            id(call.outputs[0]): attention.SelfMemory(call.layer, memories[2 * i], memories[2 * i + 1], shape)
            for i, call in enumerate(s.self_attentions)
        }

        def attend(call, x, rotary):
            layer, name = call.layer, id(call.outputs[0])
            if rotary is not None and id(rotary) not in turns:
                turns[id(rotary)] = attention.rotation(rotary)
            turn = None if rotary is None else turns[id(rotary)]
            bias = self._bias(call, t)
            if name not in before:
                query = attention.split_heads(dense(layer.q_dense, x[0]), self.batch, layer.heads)
                keys, values, _ = self.source.memory(call)
                return attention.attend(layer, query, [(keys, values, bias)], cross)
            query, keys, values = self._project(layer, x)
            query = attention.split_heads(attention.rotate(query, turn, layer.heads), self.batch, layer.heads)
            after[name] = before[name].write(t, attention.rotate(keys, turn, layer.heads), values)
            known = self.source.memory(call)
            memories = ([known] if known else []) + [after[name].memory(bias)]
            return attention.attend(layer, query, memories, penalty if s.sees_source(call) else closed[:, None])

        evaluation = Evaluation(s, rows, positions=positions, attend=attend, prepared=self.prepared)
        (logits,) = evaluation.compute([s.logits])
        memories = [
            x for c in s.self_attentions for x in (after[id(c.outputs[0])].keys, after[id(c.outputs[0])].values)
        ]
        logits = tf.reshape(tf.cast(logits, "float32"), tf.stack([self.batch, self.beams, int(logits.shape[-1])]))
        return logits, memories, ancestors

    def _project(self, layer, x):
        """Rows of queries, keys and values."""
        if id(layer) not in self.projections:
            return [dense(part, rows) for part, rows in zip((layer.q_dense, layer.k_dense, layer.v_dense), x)]
        rows = together(self.projections[id(layer)], x[0])
        return tf.split(rows, [layer.heads * n for n in (layer.key_size, layer.key_size, layer.head_size)], axis=1)

    def _bias(self, call, t):
        if call.arguments.get("p_bias") != "t5_relative":
            return None
        row = self.biases[id(self.structure.position_bias(call))][:, :, t]
        if call in self.structure.self_attentions:
            row = tf.repeat(row, self.beams, axis=-1)
        return row[:, :, None]
