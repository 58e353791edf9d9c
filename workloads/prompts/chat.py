"""A conversation's own text through a model's chat template, as Hugging Face renders it. It does not know segments.

Templates come with models, so they are not trusted: they run in jinja2's immutable sandbox, which bars private attributes and
long ranges; it does not bar a template from being slow.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from workloads.conversation import Conversation
from workloads.prompts.tokenizer_file import one_line

if TYPE_CHECKING:
    from jinja2 import Template
    from tokenizers import Tokenizer

TEMPLATE_TODAY = datetime(2024, 7, 26, 12)  # the date that Llama 3.1's template falls back to


class Message(TypedDict):
    """One message of a chat; `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template and the special tokens it may name (`bos_token`, `eos_token`, …; one that a model lacks is left out).

    `now` is what templates that write a date see: one fixed noon unless told otherwise, so that a prompt is the same on every
    day. Raises ValueError in one line, with the template's line, when it cannot be compiled.
    """

    template: str
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    name: str = "chat template"
    now: datetime = TEMPLATE_TODAY

    def __post_init__(self) -> None:
        self._compiled()

    @staticmethod
    def of_folder(folder: Path, now: datetime = TEMPLATE_TODAY) -> "ChatTemplate":
        """From a model's folder: `chat_template.jinja`, else `chat_template` in `tokenizer_config.json` (of several: `default`).

        Raises ValueError in one line when there is none.
        """
        file, config_file = folder / "chat_template.jinja", folder / "tokenizer_config.json"
        config = _read_config(config_file) if config_file.is_file() else {}
        if file.is_file():
            return ChatTemplate(file.read_text(encoding="utf-8"), _special_tokens(config), str(file), now)
        template = config.get("chat_template")
        if isinstance(template, list):
            template = {str(t.get("name")): t.get("template") for t in template if isinstance(t, dict)}.get("default")
        if not isinstance(template, str):
            raise ValueError(
                f"{folder}: no chat template: neither chat_template.jinja nor chat_template in tokenizer_config.json"
            )
        return ChatTemplate(template, _special_tokens(config), str(config_file), now)

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> str:
        """The whole prompt as text, special tokens included; ValueError in one line for whatever goes wrong in the template."""
        given = {"messages": messages, "tools": None, "documents": None, "add_generation_prompt": add_generation_prompt}
        try:
            return self._compiled().render({**self.special_tokens, **given})
        except Exception as error:  # the template is foreign code: what it raises is its fault
            raise ValueError(f"{self.name}: cannot render {len(messages)} messages: {one_line(error)}") from error

    def _compiled(self) -> "Template":
        from jinja2 import TemplateSyntaxError

        try:
            return _compile(self.template, self.now)
        except TemplateSyntaxError as error:
            raise ValueError(f"{self.name}: line {error.lineno}: {one_line(error.message)}") from error


def conversation_messages(conversation: Conversation, turn: int) -> list[Message]:
    """What turn number `turn` (from 0) sends: system prompt, earlier turns with the trace's own answers, the new question.

    A turn that `restarts` has nothing in front of it. Raises ValueError where the trace holds no text.
    """
    if not 0 <= turn < len(conversation.turns):
        raise ValueError(f"conversation {conversation.conversation_id!r} has turns 0 … {len(conversation.turns) - 1}, not {turn}")
    first = max((i for i in range(turn + 1) if conversation.turns[i].restarts), default=None)
    messages: list[Message] = []
    if first is None and (conversation.prefix_text or conversation.prefix):
        messages.append({"role": "system", "content": _text(conversation, "prefix", conversation.prefix_text)})
    for i in range(first or 0, turn + 1):
        made = conversation.turns[i]
        messages.append({"role": "user", "content": _text(conversation, f"user turn {i}", made.user_text)})
        if i < turn:
            messages.append({"role": "assistant", "content": _text(conversation, f"reply {i}", made.reply_text)})
    return messages


def chat_prompts(conversation: Conversation, template: ChatTemplate) -> list[str]:
    """The rendered prompt of each turn, ready for an answer."""
    return [template.render(conversation_messages(conversation, turn)) for turn in range(len(conversation.turns))]


def chat_tokens(conversation: Conversation, template: ChatTemplate, tokenizer: "Tokenizer") -> list[int]:
    """Tokens of each turn's whole prompt: the template writes the special tokens, so the tokenizer adds none, as in engines."""
    return [len(tokenizer.encode(text, add_special_tokens=False).ids) for text in chat_prompts(conversation, template)]


def _text(conversation: Conversation, what: str, text: str | None) -> str:
    if text is None:
        raise ValueError(f"conversation {conversation.conversation_id!r}: {what} has no text; a chat needs a trace with texts")
    return text


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {one_line(error)}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path}: not an object, but {type(config).__name__}")
    return config


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """`bos_token` and the like, each a string or an object with `content`."""
    named = {key: value.get("content") if isinstance(value, dict) else value for key, value in config.items()}
    return {key: value for key, value in named.items() if key.endswith("_token") and isinstance(value, str)}


@lru_cache(maxsize=16)
def _compile(template: str, now: datetime) -> "Template":
    """Compiled in the environment that Hugging Face's templates are written for."""
    import jinja2
    from jinja2 import nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks what the model wrote, for training; here it is only a block."""

        tags = {"generation"}  # noqa: RUF012 - jinja2's own form

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    environment.filters["tojson"] = tojson  # jinja2's own escapes HTML
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": now.strftime}
    return environment.from_string(template)
