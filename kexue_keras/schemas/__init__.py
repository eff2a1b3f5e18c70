"""Settings files: one declared schema a file, one strict reader, one line about what is wrong."""

from kexue_keras.schemas.bert_config import BERT_CONFIG
from kexue_keras.schemas.exported import EXPORTED
from kexue_keras.schemas.exported import exported_settings
from kexue_keras.schemas.exported import is_exported
from kexue_keras.schemas.hf_config import HF_BERT
from kexue_keras.schemas.hf_config import HF_MODEL
from kexue_keras.schemas.hf_config import HF_T5
from kexue_keras.schemas.prompt import prompt_settings
from kexue_keras.schemas.reading import Settings
from kexue_keras.schemas.reading import check_settings
from kexue_keras.schemas.reading import read_json
from kexue_keras.schemas.reading import read_object
from kexue_keras.schemas.reading import read_settings
from kexue_keras.schemas.run import METRICS
from kexue_keras.schemas.run import SEQ2SEQ_RUN
from kexue_keras.schemas.run import options_file
from kexue_keras.schemas.run import run_config
from kexue_keras.schemas.sentence_encoder import sentence_encoder_settings
from kexue_keras.schemas.t5_config import T5_CONFIG
from kexue_keras.schemas.token_ids import read_token_ids
from kexue_keras.schemas.tokenizer_files import ADDED_TOKENS
from kexue_keras.schemas.tokenizer_files import SAVED_TOKENIZER
from kexue_keras.schemas.tokenizer_files import TOKENIZER_CONFIG
from kexue_keras.schemas.tokenizer_files import read_lower_case
