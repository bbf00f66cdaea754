"""Bodies of /v1/fine_tuning/jobs: OpenAI's, with an object `headmix` for what this server can do besides."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from headmix_adapters.artifact.checks.rules import MAX_WORD_CHARS
from headmix_adapters.artifact.limits import Limits
from headmix_adapters.config import Problem, Task
from headmix_adapters.presets import PresetName
from headmix_adapters.train.recipe.recipe import SiteName
from headmix_server.api.schemas.body import RequestBody, ResponseBody, unsupported
from headmix_server.api.schemas.common import Text
from headmix_server.api.schemas.metadata import Metadata
from headmix_server.api.schemas.neutral import FINE_TUNING, Neutral
from headmix_server.api.schemas.numbers import Whole

MOST_EPOCHS = 50
LARGEST_BATCH = 256
LARGEST_MULTIPLIER = 1000
LARGEST_SEED = 2**32 - 1

MOST_LABEL_CHARS = Limits().max_words_chars
"""As in an artifact: more would be refused when the adapter is published."""

Auto = Literal["auto"]
Label = Annotated[Text, Field(max_length=MAX_WORD_CHARS)]
Method = Literal["supervised"]
Rank = Annotated[int, Field(ge=0, le=256), Whole]
Status = Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]

_OTHER_METHODS = ("dpo", "reinforcement")


class HyperparametersBody(RequestBody):
    """OpenAI's hyperparameters; `auto` is resolved once the data has been read."""

    drops_null: ClassVar[bool] = True

    n_epochs: Auto | Annotated[int, Field(ge=1, le=MOST_EPOCHS), Whole] = "auto"
    batch_size: Auto | Annotated[int, Field(ge=1, le=LARGEST_BATCH), Whole] = "auto"
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=LARGEST_MULTIPLIER)] = Field(
        "auto", description="Of the learning rate that `headmix train` takes by default; `auto` is 1."
    )


class SupervisedBody(RequestBody):
    """Learning from examples of answers."""

    drops_null: ClassVar[bool] = True

    hyperparameters: HyperparametersBody | None = None


class MethodBody(RequestBody):
    """How to learn; OpenAI's other methods are refused by name."""

    drops_null: ClassVar[bool] = True

    type: Method = "supervised"
    supervised: SupervisedBody | None = None

    @classmethod
    def _require_neutral(cls, name: str, value: object) -> None:
        if name in _OTHER_METHODS and value is not None:
            raise unsupported(name, _other_method(name))
        super()._require_neutral(name, value)

    @model_validator(mode="before")
    @classmethod
    def _refuse_others(cls, body: object) -> object:
        # Before the fields: such a body has the method's own object as well, which has no meaning here.
        if isinstance(body, dict) and (method := body.get("type")) in _OTHER_METHODS:
            raise unsupported("type", _other_method(method))
        return body


def _other_method(method: str) -> str:
    return f"The method {method!r} is not supported: only 'supervised' is."


class RanksBody(RequestBody):
    """The ranks of a Kernel-mix adapter; those left out are the preset's, or 0."""

    q: Rank | None = None
    v: Rank | None = None
    q_shared: Rank | None = None
    v_shared: Rank | None = None


class CanaryPublication(RequestBody):
    """Publish beside the current version, as its canary."""

    canary: Annotated[int, Field(ge=0, le=100), Whole] = Field(description="The percentage of the name's requests.")


class ExtensionBody(RequestBody):
    """What OpenAI's API has no word for. Without it the data decides on the task, and the task on the preset."""

    task: Task | None = Field(
        None, description="`classification` also makes a classifier of chats whose answers are labels."
    )
    labels: Annotated[list[Label], Field(min_length=1, max_length=4096, fail_fast=True)] | None = Field(
        None, description="In the order of the scores; by default those that occur."
    )
    problem: Problem | None = None
    preset: PresetName | None = None
    ranks: RanksBody | Annotated[int, Field(ge=1, le=256), Whole] | None = Field(
        None, description="An object for a Kernel-mix adapter, a whole number for a LoRA on `sites`."
    )
    sites: Annotated[list[SiteName], Field(min_length=1, max_length=6)] | None = None
    publish: Literal["current", "beside"] | CanaryPublication = Field(
        "current",
        description="What becomes of the adapter. The first version of a name is always current; a later one that "
        "scores below its base stays beside the current one.",
    )
    ignore: Annotated[list[Label], Field(max_length=64, fail_fast=True)] = Field(
        default=[], description="Fields of rows and messages to leave out; any other unknown field is refused."
    )
    max_length: Annotated[int, Field(ge=1, le=2**20), Whole] | None = Field(
        None, description="Maximum tokens of an example; by default 512, or as many as the base has positions."
    )

    @field_validator("labels")
    @classmethod
    def _bound_together(cls, labels: list[str] | None) -> list[str] | None:
        if labels is not None and sum(map(len, labels)) > MOST_LABEL_CHARS:
            raise ValueError(f"all labels together have at most {MOST_LABEL_CHARS} characters")
        return labels

    @model_validator(mode="after")
    def _require_one_kind(self) -> "ExtensionBody":
        is_lora = isinstance(self.ranks, int)
        if self.sites is not None and not is_lora:
            raise ValueError("sites are those of a LoRA, whose rank is a whole number in ranks")
        if is_lora and self.sites is None:
            raise ValueError("a whole number in ranks is the rank of a LoRA, which needs sites")
        if is_lora and self.preset is not None:
            raise ValueError("a preset is of a Kernel-mix adapter, and ranks ask for a LoRA")
        return self


class FineTuningRequest(RequestBody):
    """A job to create. `model` is the base; `suffix` names the adapter."""

    drops_null: ClassVar[bool] = True
    neutral: ClassVar[Neutral] = FINE_TUNING

    model: Text
    training_file: Text
    validation_file: Text | None = None
    suffix: Annotated[Text, Field(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED), Whole] | None = None
    method: MethodBody | None = None
    hyperparameters: HyperparametersBody | None = Field(
        None, description="OpenAI's older place for `method.supervised.hyperparameters`."
    )
    metadata: Metadata | None = None
    headmix: ExtensionBody | None = None

    @property
    def chosen(self) -> HyperparametersBody:
        """The hyperparameters, from wherever they are given."""
        nested = None if self.method is None or self.method.supervised is None else self.method.supervised
        given = None if nested is None else nested.hyperparameters
        return given or self.hyperparameters or HyperparametersBody()


class Hyperparameters(ResponseBody):
    """As they were requested, and from when the data has been read, as figures."""

    n_epochs: int | Auto
    batch_size: int | Auto
    learning_rate_multiplier: float | Auto


class SupervisedMethod(ResponseBody):
    """See `Hyperparameters`."""

    hyperparameters: Hyperparameters


class MethodObject(ResponseBody):
    """The method of a job."""

    type: Method
    supervised: SupervisedMethod


class JobErrorObject(ResponseBody):
    """Why a job failed; `faults` are all that were found in its files, with their lines."""

    code: str
    message: str
    param: str | None
    faults: list[str]


class ProgressObject(ResponseBody):
    """How far a job has come; null where its worker has not said so."""

    step: int | None
    steps: int | None
    epoch: float | None
    epochs: int | None
    seconds_left: float | None
    train_loss: float | None
    valid_loss: float | None


class ExtensionObject(ResponseBody):
    """What this server adds to OpenAI's job: `name` is the adapter's, `scores` are on the held-out data."""

    name: str
    task: Task | None
    preset: str | None
    publish: str
    examples: int | None
    progress: ProgressObject
    scores: dict[str, dict[str, float]]
    warnings: list[str]


class FineTuningJob(ResponseBody):
    """A job in OpenAI's form."""

    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    id: str
    created_at: int
    error: JobErrorObject | None
    fine_tuned_model: str | None
    finished_at: int | None
    hyperparameters: Hyperparameters
    model: str
    organization_id: str
    result_files: list[str]
    seed: int
    status: Status
    trained_tokens: int | None
    training_file: str
    validation_file: str | None
    estimated_finish: int | None
    integrations: list[dict[str, Any]]
    metadata: dict[str, str] | None
    method: MethodObject
    user_provided_suffix: str | None
    headmix: ExtensionObject


class FineTuningJobList(ResponseBody):
    """Jobs, newest first."""

    object: Literal["list"] = "list"
    data: list[FineTuningJob]
    has_more: bool


class FineTuningEvent(ResponseBody):
    """Something that happened in a job; `data` are the figures of a step if `type` is `metrics`."""

    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    id: str
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any] | None


class FineTuningEventList(ResponseBody):
    """Events, newest first."""

    object: Literal["list"] = "list"
    data: list[FineTuningEvent]
    has_more: bool


class CheckpointMetrics(ResponseBody):
    """The figures at a checkpoint's step; null where they were not measured."""

    step: int
    train_loss: float | None
    train_mean_token_accuracy: float | None
    valid_loss: float | None
    valid_mean_token_accuracy: float | None
    full_valid_loss: float | None
    full_valid_mean_token_accuracy: float | None


class FineTuningCheckpoint(ResponseBody):
    """A state that training can go on from. It cannot be asked: `fine_tuned_model_checkpoint` is empty."""

    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    id: str
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    metrics: CheckpointMetrics
    step_number: int


class FineTuningCheckpointList(ResponseBody):
    """Checkpoints, newest first."""

    object: Literal["list"] = "list"
    data: list[FineTuningCheckpoint]
    has_more: bool
    first_id: str | None
    last_id: str | None
