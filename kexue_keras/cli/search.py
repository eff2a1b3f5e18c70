"""`kexue-keras search`: the options of fine-tuning with the best validation score."""

import os

from kexue_keras.cli.output import say
from kexue_keras.errors import UserError
from kexue_keras.options.finetune import checked_options
from kexue_keras.schemas import read_object
from kexue_keras.search import search_options
from kexue_keras.search._study import SEARCH


def run(options):
    """Search as the options say; those of a search that is gone on with come from its folder if they are not given.

    Raises:
        UserError: see `search_options`.
    """
    given = dict(vars(options))
    parse_over = given.pop("parse_over")
    if parse_over is not None:
        known = read_object(os.path.join(options.out, SEARCH), error=UserError)
        given = vars(parse_over(dict(checked_options(known.get("options") or {}), vary=known.get("space"))))
    search_options(say=say, **given)
    return 0
