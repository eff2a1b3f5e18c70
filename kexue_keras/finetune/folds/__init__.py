"""k-fold cross-validation with predictions out of fold: `finetune --folds K`."""
