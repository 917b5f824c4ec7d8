"""The official OpenAI SDK and values that come back. Arguments: key, one gateway URL for each turn of a conversation."""

import json
import sys

import openai

key, gateways = sys.argv[1], sys.argv[2:]
PEOPLE = ["ada@example.com", "bob@example.org", "carl@example.net"]
TOOL = {
    "type": "function",
    "function": {"name": "say", "parameters": {"type": "object", "properties": {"said": {"type": "string"}}}},
}


def expected(person):
    return f"You said: write to {person}", f"**write to {person}**", {"said": f"write to {person}", "words": [f"write to {person}"]}


def turn(gateway, messages, stream):
    client = openai.OpenAI(base_url=f"{gateway}/v1", api_key=key, max_retries=0)
    call = {"model": "gpt-demo", "messages": messages, "tools": [TOOL]}
    if not stream:
        raw = client.chat.completions.with_raw_response.create(**call)
        assert raw.headers["x-sentinel-action"] == "tokenize", raw.headers
        message = raw.parse().choices[0].message
        return message.content, message.tool_calls[0].function.arguments
    text, arguments = "", ""
    for chunk in client.chat.completions.create(**call, stream=True):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            for piece in choice.delta.tool_calls or []:
                arguments += piece.function.arguments or ""
    return text, arguments


messages = []
for gateway, person in zip(gateways, PEOPLE):
    messages.append({"role": "user", "content": f"write to {person}"})
    prose, markdown, said = expected(person)
    whole, streamed = turn(gateway, messages, False), turn(gateway, messages, True)
    assert whole == streamed, (whole, streamed)
    text, arguments = streamed
    assert prose in text and markdown in text, text
    assert json.loads(arguments) == said, arguments
    messages.append({"role": "assistant", "content": text})

print(f"openai {openai.__version__} {len(gateways)} turns: ok")
