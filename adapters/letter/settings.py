"""Where letters are put, who they are from, and where the population register is."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from adapters.settings import DeadlineSeconds, ProtectedUrl


class LetterSettings(BaseSettings):
    """Settings from environment variables KRR_LETTER_….

    KRR_LETTER_FOLDER: folder for the print house; made if missing.
    KRR_LETTER_BATCH_SECONDS: how long after its first letter a batch is closed at the latest.
    KRR_LETTER_GATEWAY_IS_SANDBOX: whether nobody prints and posts what is put there; only then are
        letters to synthetic persons made.
    KRR_LETTER_SENDER: who the letter says it is from.
    KRR_LETTER_RETURN_ADDRESS: where the post office returns it to, in one line.
    KRR_LETTER_POPULATION_REGISTER_URL: base address of the population register, up to the version.
    KRR_LETTER_POPULATION_REGISTER_TOKEN_FILE: file that holds the bearer token, such as one of
        Maskinporten that is renewed there; read for every request.
    KRR_LETTER_DEADLINE_SECONDS: how long the population register has for its answer.
    """

    model_config = SettingsConfigDict(env_prefix="KRR_LETTER_")

    folder: Path
    batch_seconds: float = Field(default=2.0, gt=0, le=60, allow_inf_nan=False)
    gateway_is_sandbox: bool = False
    sender: str = Field(default="Digitaliseringsdirektoratet", min_length=1, max_length=60)
    return_address: str = Field(default="Postboks 1382 Vika, 0114 Oslo, Norge", min_length=1, max_length=70)
    population_register_url: ProtectedUrl = (
        "https://folkeregisteret.api.skatteetaten.no/folkeregisteret/offentlig-med-hjemmel/api/v1"
    )
    population_register_token_file: Path
    deadline_seconds: DeadlineSeconds = 10.0
