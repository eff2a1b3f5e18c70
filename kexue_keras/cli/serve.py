"""`kexue-keras serve`: a run or an exported folder answers over HTTP."""

from kexue_keras.cli.output import say
from kexue_keras.errors import UserError
from kexue_keras.files import describe
from kexue_keras.schemas import is_exported


def run(options):
    """Load the model, answer until SIGTERM."""
    try:
        from kexue_keras.serving.app import Limits, make_app
        from kexue_keras.serving.server import serve
    except ImportError as error:
        raise UserError('serving takes Flask: pip install "kexue-keras[serve]" (%s)' % error)
    model = _model(options)
    if options.batch_size:
        model.batch_size = options.batch_size
    limits = Limits(options.max_texts, options.max_characters, options.max_bytes, options.max_waiting)
    app = make_app(model, limits, batch_size=options.max_batch, wait=options.wait / 1000)
    say("%s is loaded" % options.run)
    try:
        serve(app, host=options.host, port=options.port, say=say)
    except (OSError, OverflowError) as error:
        app.batcher.close()
        raise UserError(
            "%s:%d: %s" % (options.host, options.port, describe(error) if isinstance(error, OSError) else error)
        )
    except SystemExit:  # so does werkzeug end where the port is taken
        app.batcher.close()
        raise UserError("%s:%d is in use; choose another --port" % (options.host, options.port))
    return 0


def _model(options):
    if is_exported(options.run):
        from kexue_keras.exported.model import ExportedModel

        return ExportedModel(options.run, threads=options.threads)
    from kexue_keras.finetune._run_folder import RunFolder
    from kexue_keras.finetune._similarity import load_similarity
    from kexue_keras.finetune.classification._classifier import Classifier

    if options.threads:
        raise UserError("--threads goes with an exported folder; TensorFlow takes what the process may have")
    task = RunFolder(options.run).config()["options"].get("task", "classification")
    if task in ("math-word-problems", "ner"):
        raise UserError("a run of --task %s cannot be served; labels and sentence vectors can" % task)
    return load_similarity(options.run) if task == "similarity" else Classifier.load(options.run)
