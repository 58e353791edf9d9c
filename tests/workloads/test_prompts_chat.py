"""Chat templates: rendered to the letter as their models' authors meant, and kept in the sandbox."""

import json
from datetime import datetime
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from workloads.conversation import Conversation, Turn
from workloads.prompts.chat import ChatTemplate, Message, chat_prompts, chat_tokens, conversation_messages
from workloads.request import Segment

# The forms of Qwen2 (ChatML), Llama 3 and Mistral, in their short well-known wording.
CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
USER: Message = {"role": "user", "content": " Hi & <bye>\n"}
REPLY: Message = {"role": "assistant", "content": "Hello"}
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def test_chatml_begins_with_its_default_system_prompt() -> None:
    assert ChatTemplate(CHATML).render([USER]) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n Hi & <bye>\n<|im_end|>\n<|im_start|>assistant\n"
    )


def test_llama_3_trims_and_begins_with_its_bos() -> None:
    template = ChatTemplate(LLAMA_3, {"bos_token": "<|begin_of_text|>"})
    assert template.render([USER, REPLY], add_generation_prompt=False) == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi & <bye><|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
    )


def test_mistral_ends_answers_and_wants_turns_to_alternate() -> None:
    template = ChatTemplate(MISTRAL, TOKENS, "mistral")
    assert template.render([USER, REPLY, USER]) == "<s>[INST]  Hi & <bye>\n [/INST]Hello</s>[INST]  Hi & <bye>\n [/INST]"
    with pytest.raises(ValueError, match=r"^mistral: cannot render 2 messages: Conversation roles must alternate user/ass"):
        template.render([USER, USER])


@pytest.mark.parametrize(
    ("template", "rendered"),
    [
        ("{% if true %}\nx\n    {% endif %}\ny", "x\ny"),  # the newline after a block and the indent before it go
        ("{% for m in messages %}{% if loop.index == 2 %}{% break %}{% endif %}{{ m.role }}{% endfor %}", "user"),
        ("{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.role }}{% endfor %}", "assistant"),
        ("{{ {'a': '<é>'} | tojson }}", '{"a": "<é>"}'),
        ("{{ [1] | tojson(indent=1) }}", "[\n 1\n]"),
        ("{% generation %}{{ messages[1].content }}{% endgeneration %}!", "Hello!"),
        ("{{ bos_token }}|{{ pad_token }}|{{ messages | length }}", "<s>||2"),
        ("{{ tools is none }} {{ documents is none }} {{ add_generation_prompt }}", "True True True"),
        ("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"),
    ],
)
def test_templates_find_what_they_are_written_for(template: str, rendered: str) -> None:
    assert ChatTemplate(template, TOKENS).render([USER, REPLY]) == rendered


def test_the_date_is_the_callers() -> None:
    template = ChatTemplate("{{ strftime_now('%Y-%m-%d') }}", now=datetime(2031, 2, 3))
    assert template.render([USER]) == "2031-02-03"


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ strftime_now.__self__.year }}",
        "{% for i in range(10000000) %}{% endfor %}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(template: str) -> None:
    with pytest.raises(ValueError, match=r"^chat template: cannot render 1 messages: ") as caught:
        ChatTemplate(template).render([USER])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "template",
    ["{{ ''.__class__ }}", "{{ '{0.__class__}'.format(1) }}", "{{ ''['__cl' ~ 'ass__'] }}", "{{ raise_exception.__globals__ }}"],
)
def test_what_is_barred_prints_as_nothing(template: str) -> None:
    assert ChatTemplate("<" + template + ">").render([USER]) == "<>"


def test_a_template_has_no_files_to_include() -> None:
    with pytest.raises(ValueError, match="cannot render"):
        ChatTemplate("{% include '/etc/passwd' %}").render([USER])


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a\n{% for m in messages %}", r"^x: line 2: Unexpected end of template"),
        ("{{ a b }}", r"^x: line 1: expected token 'end of print statement', got 'b'"),
        ("\n\n{% nonsense %}", r"^x: line 3: Encountered unknown tag 'nonsense'"),
        ("{{ 1 | no_filter }}", r"^x: line 1: No filter named 'no_filter'"),
    ],
)
def test_a_malformed_template_is_one_clear_line(template: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        ChatTemplate(template, name="x")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('two\nlines') }}", "two lines"),
        ("{{ nothing.at.all }}", "'nothing' is undefined"),
        ("{{ 1 + 'a' }}", "unsupported operand"),
        ("{{ 1 // 0 }}", "division"),
    ],
)
def test_an_error_inside_a_template_is_one_clear_line(template: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^x: cannot render 1 messages: .*{message}") as caught:
        ChatTemplate(template, name="x").render([USER])
    assert "\n" not in str(caught.value)


def folder(path: Path, config: object, jinja: str | None = None) -> Path:
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    if jinja is not None:
        (path / "chat_template.jinja").write_text(jinja)
    return path


@pytest.mark.parametrize(
    ("config", "jinja", "rendered"),
    [
        ({"chat_template": "{{ bos_token }}C", "bos_token": "<s>"}, None, "<s>C"),
        ({"chat_template": "{{ bos_token }}C", "bos_token": {"content": "<S>", "lstrip": False}}, None, "<S>C"),
        ({"chat_template": "{{ bos_token }}C", "bos_token": None}, None, "C"),
        ({"chat_template": "C", "bos_token": "<s>"}, "{{ bos_token }}J", "<s>J"),
        ({"chat_template": [{"name": "rag", "template": "R"}, {"name": "default", "template": "D"}]}, None, "D"),
    ],
)
def test_the_template_lies_in_the_models_folder(config: object, jinja: str | None, rendered: str, tmp_path: Path) -> None:
    assert ChatTemplate.of_folder(folder(tmp_path, config, jinja)).render([USER]) == rendered


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "no chat template: neither"),
        ({"chat_template": [{"name": "rag", "template": "R"}]}, "no chat template: neither"),
        ({"chat_template": 7}, "no chat template: neither"),
        ([], "tokenizer_config.json: not an object, but list"),
        ({"chat_template": "{% if %}"}, "tokenizer_config.json: line 1: "),
    ],
)
def test_a_folder_without_a_template_is_one_clear_line(config: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        ChatTemplate.of_folder(folder(tmp_path, config))


def test_a_broken_config_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer_config\.json: not JSON: "):
        ChatTemplate.of_folder(tmp_path)


def chat(*texts: tuple[str | None, str | None], prefix: str | None = None, restarts: int | None = None) -> Conversation:
    turns = tuple(
        Turn(user_tokens=1, reply_tokens=1, user_text=user, reply_text=reply, restarts=i == restarts)
        for i, (user, reply) in enumerate(texts)
    )
    return Conversation("c1", turns, prefix_text=prefix, prefix=(Segment(1, 2),) if prefix else ())


def said(messages: list[Message]) -> list[tuple[str, str]]:
    return [(m["role"], m["content"]) for m in messages]


def test_a_turn_sends_the_conversation_so_far() -> None:
    conversation = chat(("q0", "a0"), ("q1", "a1"), prefix="be kind")
    assert said(conversation_messages(conversation, 0)) == [("system", "be kind"), ("user", "q0")]
    later = [("system", "be kind"), ("user", "q0"), ("assistant", "a0"), ("user", "q1")]
    assert said(conversation_messages(conversation, 1)) == later


def test_a_turn_that_restarts_has_nothing_in_front_of_it() -> None:
    conversation = chat(("q0", "a0"), ("q1", "a1"), ("q2", "a2"), prefix="be kind", restarts=1)
    assert said(conversation_messages(conversation, 1)) == [("user", "q1")]
    assert said(conversation_messages(conversation, 2)) == [("user", "q1"), ("assistant", "a1"), ("user", "q2")]


def test_the_last_answer_is_not_needed() -> None:
    assert said(conversation_messages(chat(("q0", "a0"), ("q1", None)), 1))[-1] == ("user", "q1")


@pytest.mark.parametrize(
    ("conversation", "message"),
    [
        (chat((None, "a0"), ("q1", "a1")), "conversation 'c1': user turn 0 has no text"),
        (chat(("q0", None), ("q1", "a1")), "conversation 'c1': reply 0 has no text"),
        (chat(("q0", "a0")), "conversation 'c1' has turns 0 … 0, not 1"),
        (
            Conversation("c1", chat(("q", "a"), ("q", "a")).turns, prefix=(Segment(1, 2),)),
            "conversation 'c1': prefix has no text",
        ),
    ],
)
def test_a_chat_needs_its_texts(conversation: Conversation, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        conversation_messages(conversation, 1)


def test_each_turns_whole_prompt_is_counted_with_the_templates_own_tokens() -> None:
    words = ["user", "assistant", "q", "a", "<", "|", "im"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="q"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken("<|im_start|>"), AddedToken("<|im_end|>")])
    template = ChatTemplate(CHATML.replace("!= 'system'", "== 'none'"))
    conversation = chat(("q q q", "a a"), ("q", "a"))
    assert chat_prompts(conversation, template) == [
        "<|im_start|>user\nq q q<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>user\nq q q<|im_end|>\n<|im_start|>assistant\na a<|im_end|>\n"
        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n",
    ]
    opening, generation = 3, 2  # start, role, end; start, role
    assert chat_tokens(conversation, template, tokenizer) == [opening + 3 + generation, 3 * opening + 3 + 2 + 1 + generation]
