"""`search_options`: many short runs of `finetune`, chosen and pruned by Optuna; kept in a SQLite file.

Trials see the training part and the validation alone. A search that was stopped resumes: trials that were under way are
continued from their checkpoints.
"""

import os
import shutil
from typing import Any, Dict, Optional, Sequence

from kexue_keras.backend import keras, scratch_graph
from kexue_keras.errors import UserError, printable
from kexue_keras.files import FolderLock, atomic, write_json
from kexue_keras.finetune import finetune
from kexue_keras.finetune._fingerprints import fingerprint
from kexue_keras.finetune._run_folder import as_absolute
from kexue_keras.options.choices import METRICS
from kexue_keras.options.finetune import as_option, make_options
from kexue_keras.schemas import read_json
from kexue_keras.search._space import Space
from kexue_keras.types import Path, Say

SEARCH, DATABASE, TRIALS, RUNS, CONFIG = "search.json", "study.db", "trials.tsv", "trials", "config.json"
# Trials that run to their end before others are compared with them.
FIRST = 4
_FRAME = ("resume", "overwrite", "config", "out")


class _Report(keras.callbacks.Callback):
    """Tells Optuna the score of each epoch, and ends a trial that is worse than the others were by then."""

    def __init__(self, trial, optuna):
        super(_Report, self).__init__()
        self.trial, self.optuna = trial, optuna

    def on_epoch_end(self, epoch, logs=None):
        self.trial.report(float(logs["val_score"]), epoch + 1)
        if self.trial.should_prune():
            raise self.optuna.TrialPruned()


def search_options(
    model: Path,
    data: Path,
    out: Path,
    *,
    trials: int = 20,
    vary: Optional[Sequence[str]] = None,
    say: Say = print,
    **options: Any,
) -> Dict[str, Any]:
    """Search for the options with the best validation score.

    Args:
        model, data: as for `finetune`.
        out: folder of the search: study.db, trials.tsv, config.json, and the run of the best trial.
        trials: trials in all, including those of a resumed search.
        vary: what is searched, see `Space`.
        say: function that prints a line.
        **options: further options of `finetune`: those that are the same in all trials; resume continues the search
            in `out`.

    Returns:
        dict: best (options, score, trial, run), trials (list of dicts: trial, state, score, epochs, options).

    Raises:
        UserError: Optuna is not installed; a folder with something else, or with another search; see `finetune`.

    Reference: Optuna, arXiv 1907.10902 (TPE sampler, median pruner).
    """
    optuna = _optuna()
    options = make_options(model=model, data=data, out=out, **options)
    _check(options, trials)
    space, home = Space(vary, task=options.task), os.path.abspath(options.out)
    common = {name: value for name, value in vars(as_absolute(options)).items() if name not in _FRAME}
    settings = {"space": space.describe(), "options": common, "data": fingerprint(options.data)}
    _check_home(home, settings, options)
    os.makedirs(home, exist_ok=True)
    with FolderLock(home):
        write_json(os.path.join(home, SEARCH), settings)
        study = _study(optuna, home, options)
        _take_up_again(optuna, study, space)
        while _done(study, optuna) < trials:
            note = (lambda line: None) if options.quiet else say
            _one_trial(optuna, study, space, common, home, trials, note)
            _write_results(study, space, common, home)
        found = _results(study, home)
    best = found["best"]
    if best is None:
        raise UserError("no trial came to an end; the last ones say why", path=os.path.join(home, TRIALS))
    say("best of %d trials: trial %d, score %.4f" % (len(found["trials"]), best["trial"], best["score"]))
    say("  " + ", ".join("%s %s" % item for item in sorted(best["options"].items())))
    say("its run is %s; kexue-keras finetune --config %s --out RUN trains it again" % (best["run"], _at(home, CONFIG)))
    return found


def _optuna():
    try:
        import optuna
    except ImportError:
        raise UserError("a search takes Optuna, which is not installed: pip install 'kexue-keras[search]'")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _at(home, name):
    return os.path.join(home, name)


def _check(options, trials):
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        raise UserError("--trials is %r; a whole number from 1 is needed" % (trials,))
    for name in ("test", "folds", "overwrite"):
        if getattr(options, name):
            why = {"test": "a search must not see it; give it to the run with what was found"}
            raise UserError("--%s does not go with a search%s" % (name, ": " + why[name] if name in why else ""))
    for name in ("model", "data", "out"):
        if not getattr(options, name):
            raise UserError("--%s is needed" % name)
    if options.task not in METRICS:
        raise UserError("--task %s has no score to search by" % options.task)


def _check_home(home, settings, options):
    if not os.path.isdir(home) or not os.listdir(home):
        return
    path = _at(home, SEARCH)
    if not os.path.exists(path):
        raise UserError("the folder is not empty and holds no search; choose another --out", path=home)
    if not options.resume:
        raise UserError("there is a search already; --resume continues it", path=home)
    known = read_json(path, error=UserError)
    # It may be run on another machine or more quietly.
    passing = ("quiet", "save_every", "track")
    there, here = (dict(one, options=_without(one.get("options") or {}, passing)) for one in (known, settings))
    for name in ("space", "options", "data"):
        if there.get(name) != here[name]:
            raise UserError("--resume: the search was started with other %s; choose another --out" % name, path=path)


def _without(options, names):
    return {name: value for name, value in options.items() if name not in names}


def _study(optuna, home, options):
    storage = "sqlite:///" + _at(home, DATABASE)
    done = 0
    if os.path.exists(_at(home, DATABASE)):
        done = len(optuna.load_study(study_name="search", storage=storage).trials)
    # The sampler's random numbers are not kept; a resumed search draws others than it would have.
    sampler = optuna.samplers.TPESampler(seed=(options.seed + done) % 2**32, n_startup_trials=max(FIRST, 5))
    pruner = optuna.pruners.MedianPruner(n_startup_trials=FIRST, n_warmup_steps=0)
    return optuna.create_study(
        study_name="search", storage=storage, sampler=sampler, pruner=pruner, direction="maximize", load_if_exists=True
    )


def _take_up_again(optuna, study, space):
    """Trials that a kill has left under way are put down as failed, and their options tried next."""
    for trial in study.get_trials(deepcopy=False):
        if trial.state == optuna.trial.TrialState.RUNNING:
            if trial.params:
                study.enqueue_trial(trial.params, user_attrs={"run": trial.user_attrs.get("run", trial.number)})
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def _done(study, optuna):
    """Trials that were not broken off from outside."""
    states = optuna.trial.TrialState
    finished = [t for t in study.get_trials(deepcopy=False) if t.state in (states.COMPLETE, states.PRUNED)]
    refused = [t for t in study.get_trials(deepcopy=False) if t.user_attrs.get("refused")]
    return len(finished) + len(refused)


def _one_trial(optuna, study, space, common, home, trials, say):
    trial = study.ask()
    values = space.suggest(trial)
    number = trial.user_attrs.get("run", trial.number)
    trial.set_user_attr("run", number)
    trial.set_user_attr("options", values)
    run = _at(home, os.path.join(RUNS, "%04d" % number))
    shown = ", ".join("%s %s" % item for item in sorted(values.items()))
    states = optuna.trial.TrialState
    try:
        given = dict(common, quiet=True, out=run, resume=os.path.isdir(run), **values)
        with scratch_graph():
            metrics = finetune(say=lambda line: None, callbacks=[_Report(trial, optuna)], **given)
    except optuna.TrialPruned:
        study.tell(trial, state=states.PRUNED)
        say("trial %d of %d: %s: pruned" % (_done(study, optuna), trials, shown))
        shutil.rmtree(run, ignore_errors=True)
        return
    except UserError as error:
        # Options that do not go together, or a divergence; but what is wrong with the data is wrong with all trials.
        if not _is_of_options(error, values):
            study.tell(trial, state=states.FAIL)
            shutil.rmtree(run, ignore_errors=True)
            raise
        trial.set_user_attr("refused", printable(error))
        study.tell(trial, state=states.FAIL)
        say("trial %d of %d: %s: %s" % (_done(study, optuna), trials, shown, printable(error)))
        shutil.rmtree(run, ignore_errors=True)
        return
    score = max(row["valid_score"] for row in metrics["history"])
    trial.set_user_attr("epochs", len(metrics["history"]))
    study.tell(trial, score)
    say("trial %d of %d: %s: score %.4f" % (_done(study, optuna), trials, shown, score))
    _keep_the_best(study, home)


def _is_of_options(error, values):
    """Whether a trial failed by what it varies."""
    said = str(error)
    return "diverged" in said or "became" in said or any(as_option(name) in said for name in values)


def _keep_the_best(study, home):
    """Of all runs only the best one stays on the disk."""
    best = study.best_trial
    kept = "%04d" % best.user_attrs.get("run", best.number)
    for name in os.listdir(_at(home, RUNS)):
        if name != kept and name.isdigit():
            shutil.rmtree(_at(home, os.path.join(RUNS, name)), ignore_errors=True)


def _results(study, home):
    rows = []
    for trial in study.get_trials(deepcopy=False):
        if "options" in trial.user_attrs and (trial.state.name != "FAIL" or trial.user_attrs.get("refused")):
            reported = [value for _, value in sorted(trial.intermediate_values.items())]
            rows.append(
                {
                    "trial": trial.number,
                    "state": {"COMPLETE": "complete", "PRUNED": "pruned"}.get(trial.state.name, "refused"),
                    "score": trial.value if trial.state.name == "COMPLETE" else max(reported, default=None),
                    "epochs": len(reported),
                    "seconds": round((trial.duration.total_seconds() if trial.duration else 0.0), 1),
                    "options": trial.user_attrs["options"],
                    "why": trial.user_attrs.get("refused", ""),
                    "run": _at(home, os.path.join(RUNS, "%04d" % trial.user_attrs["run"])),
                }
            )
    complete = [row for row in rows if row["state"] == "complete"]
    best = max(complete, key=lambda row: row["score"]) if complete else None
    return {"best": best, "trials": rows}


def _write_results(study, space, common, home):
    """trials.tsv, and config.json with the best options so far."""
    found = _results(study, home)
    names = [option.name for option in space.options]
    with atomic(_at(home, TRIALS), "w") as handle:
        handle.write("\t".join(["trial", "state", "score", "epochs", "seconds"] + names + ["why"]) + "\n")
        for row in found["trials"]:
            score = "" if row["score"] is None else "%.6f" % row["score"]
            cells = [row["trial"], row["state"], score, row["epochs"], row["seconds"]]
            cells += [row["options"].get(name) for name in names] + [row["why"]]
            handle.write("\t".join(" ".join(str(cell).split()) for cell in cells) + "\n")
    if found["best"] is not None:
        kept = dict(common, **found["best"]["options"])
        write_json(_at(home, CONFIG), {"options": kept, "search": found["best"]})
