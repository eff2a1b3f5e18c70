"""Settings files: one declared schema a file, one strict reader, one line about what is wrong."""

from kexue_keras.schemas.bert_config import BERT_CONFIG
from kexue_keras.schemas.hf_config import HF_BERT, HF_MODEL, HF_T5
from kexue_keras.schemas.prompt import prompt_settings
from kexue_keras.schemas.reading import Settings, check_settings, read_json, read_object, read_settings
from kexue_keras.schemas.run import METRICS, SEQ2SEQ_RUN, options_file, run_config
from kexue_keras.schemas.sentence_encoder import sentence_encoder_settings
from kexue_keras.schemas.t5_config import T5_CONFIG
from kexue_keras.schemas.token_ids import read_token_ids
from kexue_keras.schemas.tokenizer_files import ADDED_TOKENS, SAVED_TOKENIZER, TOKENIZER_CONFIG, read_lower_case
