"""Records in recorded.json what the transformers library makes of the templates in templates/.

The templates are written for this test: each has the constructs of one kind of published template, with marks of its
own. Needs transformers 5.23 and jinja2 3.1.6. The clock stands still.

    python tests/chat/record.py
"""

import datetime
import json
import pathlib

from transformers.utils import chat_template_utils


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2026, 3, 9, 14, 5)


chat_template_utils.datetime = Clock

TOKENS = {"bos_token": "[bos]", "eos_token": "[eos]"}
SYSTEM = {"role": "system", "content": " Answer in one word.\n"}
FIRST = [{"role": "user", "content": "What is  2 + 2?\nSay it \"fast\" & <b>bold</b>."}]
LATER = FIRST + [
    {"role": "assistant", "content": "<think>\nEasy: 4.\n</think>\n\nFour. \u00e9\U0001f600"},
    {"role": "user", "content": " Thanks!\n"},
]
CONVERSATIONS = [FIRST, LATER, [SYSTEM] + FIRST, [SYSTEM] + LATER, FIRST + FIRST]
FUNCTIONS = [{"name": "add", "parameters": {"a": "number", "scale": 1.0, "note": "<i> \u00e9"}, "required": ["a"], "strict": None}]
MORE = {
    "thinking": [{"enable_thinking": False}, {"enable_thinking": True}, {"functions": FUNCTIONS}],
    "headers": [{"date_string": "1 Jan 2000"}],
}

folder = pathlib.Path(__file__).parent
recorded = []
for path in sorted((folder / "templates").glob("*.jinja")):
    for variables in [{}] + MORE.get(path.stem, []):
        for messages in CONVERSATIONS:
            case = {"template": path.stem, "messages": messages, "variables": {**TOKENS, **variables}}
            try:
                texts, _ = chat_template_utils.render_jinja_template(
                    [messages],
                    chat_template=path.read_text(encoding="utf-8"),
                    add_generation_prompt=True,
                    **case["variables"],
                )
                case["text"] = texts[0]
            except Exception as error:
                case["error"] = str(error)
            recorded.append(case)
text = json.dumps(recorded, indent=1, ensure_ascii=False)
(folder / "recorded.json").write_text(text + "\n", encoding="utf-8")
print(len(recorded), "renderings,", sum("error" in case for case in recorded), "refused")
