"""What a config must satisfy beyond its types, including the base it is meant for. Reads no tensor.

Every fault names the field as it appears in the header's JSON.
"""

from collections.abc import Sequence

from msgspec import UNSET

from headmix_adapters.artifact.faults import FaultList, quoted
from headmix_adapters.artifact.limits import FLOAT32_MAX, FLOAT32_SMALLEST, Limits
from headmix_adapters.artifact.metadata import check_metadata, training_fault
from headmix_adapters.config import FORMAT, AdapterConfig, BaseShape, ClassifierConfig, ExamplePrompt, SiteConfig
from headmix_adapters.printable import printable
from headmix_adapters.sites import TERMS

MAX_DIMENSION = 1 << 20
MAX_WORD_CHARS = 256
_SIZES = ("hidden_size", "num_layers", "num_heads", "num_kv_heads", "head_dim", "vocab_size")
_MLP_SIZES = ("intermediate_size", "gated_mlp")


def check_dimensions(config: AdapterConfig, limits: Limits, faults: FaultList) -> None:
    """Add a fault for every broken rule about what determines tensor shapes: format, base sizes, terms and ranks."""
    if config.format != FORMAT:
        faults.add(f"format: {config.format} is not supported, this version reads format {FORMAT}")
    _check_base_sizes(config.base, faults)
    _check_mlp_size(config, faults)
    for name, site in config.sites.present().items():
        _check_site(name, site, limits, faults)


def check_meaning(config: AdapterConfig, limits: Limits, faults: FaultList) -> None:
    """Add a fault for every other broken rule: method and task versus the parts present, labels, tokens, metadata."""
    sites = config.sites.present()
    for name, site in sites.items():
        if config.method == "lora" and site.head is not None:
            faults.add(f"sites.{name}.head: method lora has shared parts only")
    if config.task == "generation" and not sites and not config.added_tokens:
        faults.add("sites: a generation adapter needs at least one")
    if config.task == "classification" and config.classifier is None:
        faults.add("classifier: missing, and task is classification")
    if config.task == "generation" and config.classifier is not None:
        faults.add("classifier: present, but task is generation")
    if config.classifier is not None:
        _check_classifier(config.classifier, limits, faults)
        _check_pad_token(config.classifier, config.base.vocab_size, faults)
    _check_words("added_tokens", config.added_tokens, limits.max_added_tokens, limits, faults)
    _check_template(config, limits, faults)
    check_examples(config, limits, faults)
    check_metadata(config, limits, faults)


def check_base(config: AdapterConfig, base: BaseShape, *, allow_base_mismatch: bool, faults: FaultList) -> None:
    """Add a fault for every difference between the base the artifact was made for and the one given.

    The name is not compared: the same model goes by different names in different places.
    """
    own = config.base
    if own.model_type != base.model_type:
        faults.add(f"base.model_type: the artifact is for {quoted(own.model_type)}, this base is {base.model_type}")
    # An adapter that leaves the MLP alone fits any MLP width and need not state one.
    for field in _SIZES + (_MLP_SIZES if config.sites.adapts_mlp() else ()):
        if getattr(own, field) != getattr(base, field):
            faults.add(f"base.{field}: the artifact is for {getattr(own, field)}, this base has {getattr(base, field)}")
    if own.fingerprint != base.fingerprint and not allow_base_mismatch:
        faults.add(
            f"base.fingerprint: trained on {quoted(own.fingerprint)}, the base is {base.fingerprint}; "
            "allow_base_mismatch accepts it"
        )


def check_examples(config: AdapterConfig, limits: Limits, faults: FaultList) -> None:
    """Add a fault for every example that is too long, has control characters, or does not suit the adapter's task."""
    if len(config.examples) > limits.max_examples:
        faults.add(f"examples: {len(config.examples)} are more than the limit of {limits.max_examples}")
        return
    labels = config.classifier.labels if config.classifier is not None else ()
    for index, example in enumerate(config.examples):
        where = f"examples[{index}]"
        if not example.prompt.strip():
            faults.add(f"{where}.prompt: empty")
        for field, text in (("prompt", example.prompt), ("expect", example.expect)):
            if len(text) > limits.max_example_chars:
                faults.add(f"{where}.{field}: longer than {limits.max_example_chars} characters")
            elif printable(text, lines=True) != text:
                faults.add(f"{where}.{field}: {quoted(text)} holds control characters")
        if example.tools:
            _check_tools(where, example, limits, faults)
        if example.chat and config.task == "classification":
            faults.add(f"{where}.chat: true, but a text is classified and not chatted with")
        if _is_no_label(config, example.expect):
            faults.add(f"{where}.expect: {quoted(example.expect)} is not one of the labels {quoted(', '.join(labels))}")


def _check_tools(where: str, example: ExamplePrompt, limits: Limits, faults: FaultList) -> None:
    if not example.chat:
        faults.add(f"{where}.tools: present, but only a chat has tools")
    size = Limits(max_metadata_bytes=limits.max_example_chars, max_metadata_depth=limits.max_metadata_depth)
    if (reason := training_fault({"tools": list(example.tools)}, size)) is not None:
        faults.add(f"{where}.tools: {reason}")


def _check_template(config: AdapterConfig, limits: Limits, faults: FaultList) -> None:
    """Check a chat template's size and characters; whether it is valid jinja is for `verify`."""
    template = config.chat_template
    if template and config.task != "generation":
        faults.add("chat_template: present, but a text is classified and not chatted with")
    if (size := len(template.encode())) > limits.max_template_bytes:
        faults.add(f"chat_template: {size} bytes, more than the limit of {limits.max_template_bytes}")
    elif printable(template, lines=True) != template:
        faults.add("chat_template: it holds control characters")


def _is_no_label(config: AdapterConfig, expect: str) -> bool:
    head = config.classifier
    return bool(expect) and head is not None and head.problem == "single_label" and expect not in head.labels


def _check_base_sizes(base: BaseShape, faults: FaultList) -> None:
    sizes = {field: getattr(base, field) for field in _SIZES}
    wrong = {field: size for field, size in sizes.items() if not 1 <= size <= MAX_DIMENSION}
    for field, size in wrong.items():
        faults.add(f"base.{field}: {size} is not between 1 and {MAX_DIMENSION}")
    if not wrong and base.num_heads % base.num_kv_heads:
        faults.add(f"base.num_kv_heads: {base.num_heads} heads cannot share {base.num_kv_heads} key/value heads")


def _check_mlp_size(config: AdapterConfig, faults: FaultList) -> None:
    size = config.base.intermediate_size
    least = 1 if config.sites.adapts_mlp() else 0
    if not least <= size <= MAX_DIMENSION:
        needed = ", which sites gate_up and down need" if size == 0 else ""
        faults.add(f"base.intermediate_size: {size} is not between {least} and {MAX_DIMENSION}{needed}")


def _check_site(name: str, site: SiteConfig, limits: Limits, faults: FaultList) -> None:
    if site.head is None and site.shared is None:
        faults.add(f"sites.{name}: neither a head nor a shared part")
    if site.head is not None:
        where = f"sites.{name}.head"
        if (name, "head", site.head.base) not in TERMS:
            legal = " or ".join(source for site_name, part, source in TERMS if (site_name, part) == (name, "head"))
            faults.add(f"{where}.base: {site.head.base} is not defined for site {name} ({legal or 'no head part'})")
        _check_term(where, site.head.rank, site.head.scale, limits.most_rank(name), faults)
    if site.shared is not None:
        _check_term(f"sites.{name}.shared", site.shared.rank, site.shared.scale, limits.most_rank(name), faults)


def _check_term(where: str, rank: int, scale: float, most: int, faults: FaultList) -> None:
    if not 1 <= rank <= most:
        faults.add(f"{where}.rank: {rank} is not between 1 and {most}")
    # Checked as float32, which the server computes in: there 1e300 is infinite, and 1e-40 counts as 0.
    if not FLOAT32_SMALLEST <= abs(scale) <= FLOAT32_MAX:
        faults.add(f"{where}.scale: {scale:g} is not a finite number other than 0 in float32")


def _check_classifier(classifier: ClassifierConfig, limits: Limits, faults: FaultList) -> None:
    where = "classifier.labels"
    count = len(classifier.labels)
    if classifier.problem == "regression" and count != 1:
        faults.add(f"{where}: regression has exactly 1, not {count}")
    elif classifier.problem == "single_label" and count < 2:
        faults.add(f"{where}: single_label needs at least 2, not {count}")
    elif count < 1:
        faults.add(f"{where}: at least 1 is needed")
    _check_words(where, classifier.labels, limits.max_labels, limits, faults)
    for index, label in enumerate(classifier.labels[: limits.max_labels]):
        # People read labels in answers and lists; added tokens are for the model and may contain line breaks.
        if printable(label) != label:
            faults.add(f"{where}[{index}]: {quoted(label)} holds control characters")


def _check_pad_token(classifier: ClassifierConfig, vocab_size: int, faults: FaultList) -> None:
    token = classifier.pad_token
    if token is UNSET:
        return
    if classifier.pooling != "last":
        faults.add(f"classifier.pad_token: only pooling last looks past a token, this head's is {classifier.pooling}")
    if not 0 <= token < vocab_size:
        faults.add(f"classifier.pad_token: {token} is not a token of the base, which has {vocab_size}")


def label_fault(label: str) -> str | None:
    """Return what makes a text no label of an artifact, or None: what training is not to find out at its end."""
    if not label.strip():
        return "is empty"
    if len(label) > MAX_WORD_CHARS:
        return f"is longer than {MAX_WORD_CHARS} characters"
    return None if printable(label) == label else "holds control characters"


def _check_words(where: str, words: Sequence[str], most: int, limits: Limits, faults: FaultList) -> None:
    """Check labels or added tokens: bounded in number and length, not empty, no duplicates."""
    if len(words) > most:
        faults.add(f"{where}: {len(words)} are more than the limit of {most}")
        return
    if (length := sum(map(len, words))) > limits.max_words_chars:
        faults.add(f"{where}: {length} characters in all, more than the limit of {limits.max_words_chars}")
    seen: set[str] = set()
    for index, word in enumerate(words):
        if not word.strip():
            faults.add(f"{where}[{index}]: empty")
        elif len(word) > MAX_WORD_CHARS:
            faults.add(f"{where}[{index}]: longer than {MAX_WORD_CHARS} characters")
        elif word in seen:
            faults.add(f"{where}[{index}]: {quoted(word)} appears twice")
        seen.add(word)
