"""Calibration: the patterns' bias towards labels is measured on texts without labels and removed.

Reference: Zhao et al., "Calibrate Before Use: Improving Few-Shot Performance of Language Models", arXiv 2102.09690, who
take a single text without content for it.
"""

from typing import List, Optional

from kexue_keras.data import checked_texts
from kexue_keras.types import Array, Texts


class Calibrated(object):
    """What `PromptClassifier` knows of calibration: its texts, and the prior of the weights as they are."""

    def calibrate(self, texts: Optional[Texts]) -> None:
        """Remove the patterns' bias towards labels, as measured on texts without labels.

        p(label | text) = softmax(s_label(text) - mean over `texts` of log p(label | t)), for each pattern by itself.
        Of `texts` all labels then come to be about as likely, so they should be of all labels alike. The prior is
        measured at the next prediction, again after training, and saved along.

        Args:
            texts: list of str, or of (str, str) for patterns with two; None: no calibration.

        Raises:
            ValueError: no texts, a single str, or what the patterns do not take.

        Reference: Zhao et al., arXiv 2102.09690.
        """
        self._prior, self._calibration_texts = None, None
        if texts is not None:
            texts = checked_texts(texts, name="calibrate", pairs=len(self.patterns[0].fields) == 2)
            if not texts:
                raise ValueError("calibrate has no texts; give some hundreds without labels, or None")
            self._calibration_texts = texts

    @property
    def prior(self) -> Optional[List[Array]]:
        """Mean log-probabilities of the labels over the texts of `calibrate`, one array per pattern; None without."""
        if self._prior is None and self._calibration_texts is not None:
            # Threads that come first all at once measure it one after the other, that is, once.
            with self.session.building():
                if self._prior is None:
                    self._check_once(self._calibration_texts)
                    each = self._scores_by_pattern(self._calibration_texts)
                    self._prior = [self._words.prior(scores) for scores in each]
        return self._prior

    def _check_calibration_can_follow(self):
        """Refuse to train with a prior that would be that of other weights.

        Raises:
            ValueError: it was loaded without its texts.
        """
        if self._prior is not None and self._calibration_texts is None:
            raise ValueError(
                "this classifier was saved with a calibration, whose texts are not with it, so that it cannot be "
                "measured again after training; call calibrate(texts) first, or calibrate(None) to continue without"
            )
