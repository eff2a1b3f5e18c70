"""The settings files of a sentence-transformers folder: which modules there are, and the settings of each."""

from kexue_keras.schemas.reading import Settings
from kexue_keras.schemas.words import (
    FLAG,
    NAME,
    POSITIONS,
    TEXT,
    WIDTH,
    dict_of,
    either,
    keys,
    list_of,
    nullable,
    whole,
)

MODULES, POOLING_FOLDER = "modules.json", "1_Pooling"
REMEDY = "Download the folder again, or save the encoder again."

# modules.json is a list; it is checked as the one entry of an object.
MODULE_LIST = Settings(
    keys({"modules": list_of(keys({"type": NAME, "path": TEXT}, ("type", "path")), 1, 20)}, ("modules",)),
    remedy=REMEDY,
)
# Words of today, and of before version 5.
LEGACY_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
POOLING = Settings(
    keys(dict({"pooling_mode": either(NAME, list_of(NAME, 1))}, **{name: FLAG for name in LEGACY_MODES})),
    remedy=REMEDY,
)
DENSE = Settings(
    keys(
        {
            "in_features": whole(1, WIDTH),
            "out_features": whole(1, WIDTH),
            "bias": FLAG,
            "activation_function": NAME,
            "module_input_name": NAME,
            "module_output_name": nullable(NAME),
            "use_residual": FLAG,
        },
        ("in_features", "out_features"),
    ),
    remedy=REMEDY,
)
TRANSFORMER = Settings(
    keys({"max_seq_length": nullable(whole(2, POSITIONS)), "do_lower_case": nullable(FLAG)}), remedy=REMEDY
)
PROMPTS = Settings(
    keys({"prompts": nullable(dict_of(nullable(TEXT))), "default_prompt_name": nullable(TEXT)}), remedy=REMEDY
)


def pooling_modes(config):
    """Names of the poolings that 1_Pooling/config.json asks for.

    >>> pooling_modes({'pooling_mode_cls_token': False, 'pooling_mode_mean_tokens': True}), pooling_modes({})
    (['mean'], ['mean'])
    """
    given = config.get("pooling_mode")
    if given is not None:
        return [given] if isinstance(given, str) else list(given)
    return [mode for name, mode in LEGACY_MODES.items() if config.get(name)] or ["mean"]
