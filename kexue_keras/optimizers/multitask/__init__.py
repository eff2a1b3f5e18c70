"""Several tasks in one step: the gradients are combined, not the losses (多任务学习漫谈, kexue.fm/archives/8896)."""

from kexue_keras.optimizers.multitask._multitask import MultiTask
