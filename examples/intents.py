"""Many to one: what a sentence wants
==================================

Words in, an intent out: "what time is it?" asks the time::

    python examples/intents.py

The sentences are made here, from templates. Some templates are kept for the test, so that it asks
for sentences that are put in another way than those of the training, not only for other words.
"""

import itertools
import re

import numpy as np

import fastrnn
from fastrnn import data, losses, optim

SLOTS = {
    "please": ["", "please", "could you", "can you please"],
    "place": ["paris", "london", "here", "the mountains", "berlin", "rome"],
    "day": ["today", "tomorrow", "on sunday", "this evening", "next week"],
    "hour": [
        "seven",
        "eight thirty",
        "noon",
        "six in the morning",
        "ten o'clock",
        "half past nine",
    ],
    "music": ["jazz", "some music", "a song", "my favourite album", "the radio", "mozart"],
    "room": ["kitchen", "bedroom", "living room", "hall", "garage"],
    "who": ["my mother", "anna", "the office", "doctor smith", "peter"],
    "thing": ["milk", "bread", "three apples", "coffee", "some cheese", "soap"],
}
# The last two templates of each intent are kept for the test.
INTENTS = {
    "time": [
        "what time is it",
        "what is the time",
        "{please} tell me the time",
        "what time is it in {place}",
        "do you know what time it is",
        "is it already {hour}",
        "how late is it",
        "what is the time in {place} now",
        "{please} tell me what time it is",
    ],
    "weather": [
        "what is the weather like {day}",
        "will it rain in {place} {day}",
        "how is the weather in {place}",
        "is it going to be sunny {day}",
        "do i need an umbrella {day}",
        "{please} tell me the forecast for {place}",
        "how cold will it be in {place} {day}",
        "{please} tell me if it will rain {day}",
        "what will the weather be in {place} {day}",
    ],
    "alarm": [
        "{please} wake me at {hour}",
        "set an alarm for {hour}",
        "{please} set the alarm to {hour} {day}",
        "i want to get up at {hour} {day}",
        "wake me up {day} at {hour}",
        "remind me to get up at {hour}",
        "i need an alarm at {hour} {day}",
        "{please} wake me up at {hour} {day}",
    ],
    "music": [
        "play {music}",
        "{please} play {music}",
        "i want to hear {music}",
        "put on {music}",
        "let me listen to {music} in the {room}",
        "turn on {music}",
        "{please} put on {music} in the {room}",
        "i would like to listen to {music}",
    ],
    "light": [
        "turn on the light in the {room}",
        "{please} switch off the lights",
        "switch the light off in the {room}",
        "it is too dark in the {room}",
        "{please} turn the {room} lights on",
        "lights off in the {room}",
        "{please} switch on the {room} light",
        "make it brighter in the {room}",
    ],
    "call": [
        "call {who}",
        "{please} call {who} {day}",
        "phone {who}",
        "i want to talk to {who}",
        "{please} ring {who}",
        "dial the number of {who}",
        "i need to talk to {who} {day}",
        "{please} phone {who} now",
    ],
    "shopping": [
        "add {thing} to my shopping list",
        "{please} buy {thing}",
        "we need {thing}",
        "put {thing} on the list",
        "order {thing} {day}",
        "i am out of {thing}",
        "{please} put {thing} on my shopping list",
        "we are out of {thing} and need to buy it {day}",
    ],
    "greeting": [
        "hello",
        "good morning",
        "hi there",
        "hello how are you {day}",
        "good evening to you",
        "hey nice to see you",
        "good morning how are you",
        "hi nice to see you {day}",
    ],
}
NAMES = list(INTENTS)
PADDING, UNKNOWN = 0, 1
MOST = 60  # sentences of one template

Sentence = tuple[list[str], int]


def words(sentence: str) -> list[str]:
    return re.findall(r"[a-z']+", sentence.lower())


def fill(template: str, rng: np.random.Generator) -> list[str]:
    """Return sentences of a template: all its fillings, or MOST of them."""
    slots = re.findall(r"{(\w+)}", template)
    fillings = list(itertools.product(*(SLOTS[slot] for slot in slots)))
    chosen = rng.permutation(len(fillings))[:MOST]
    return [template.format(**dict(zip(slots, fillings[i], strict=True))) for i in chosen]


def make_sentences(seed: int = 0) -> tuple[list[Sentence], list[Sentence], list[Sentence]]:
    """Return training sentences, others of the same templates, and those of other templates."""
    rng = np.random.default_rng(seed)
    train, same, other = [], [], []
    for intent, templates in enumerate(INTENTS.values()):
        for number, template in enumerate(templates):
            for sentence in fill(template, rng):
                kept = number >= len(templates) - 2
                part = other if kept else same if rng.random() < 0.2 else train
                part.append((words(sentence), intent))
    return train, same, other


class Reader:
    """A model of words, and the numbers of the words it knows."""

    def __init__(self, sentences: list[Sentence], size: int = 32) -> None:
        known = sorted({word for sentence, _ in sentences for word in sentence})
        self.ids = {word: number for number, word in enumerate(known, 2)}
        self.model = fastrnn.Sequential(
            fastrnn.Embedding(len(known) + 2, size, padding_idx=PADDING, seed=1),
            fastrnn.VariationalDropout(0.2, seed=2),
            fastrnn.GRU(size, size, bidirectional=True, seed=3),
            fastrnn.MaxPooling(),
            fastrnn.Dropout(0.3, seed=4),
            fastrnn.Linear(2 * size, len(NAMES), seed=5),
        )

    def batch(self, sentences: list[list[str]]):
        """Return ids (T, B), padded, and lengths (B,)."""
        ids = [np.array([self.ids.get(w, UNKNOWN) for w in sentence]) for sentence in sentences]
        return data.pad_sequence(ids), np.array([len(sentence) for sentence in sentences])

    def intents(self, sentences: list[list[str]]):
        """Return the number of the most probable intent of each sentence."""
        ids, lengths = self.batch(sentences)
        logits, _ = self.model(ids, lengths=lengths)
        return logits.argmax(axis=-1)

    def accuracy(self, sentences: list[Sentence]) -> float:
        answers = self.intents([sentence for sentence, _ in sentences])
        return float((answers == [intent for _, intent in sentences]).mean())


def train(reader: Reader, sentences: list[Sentence], epochs: int, batch_size: int = 32) -> None:
    parameters = reader.model.parameters()
    optimizer = optim.Adam(parameters, lr=3e-3)
    rng = np.random.default_rng(6)
    for epoch in range(epochs):
        order = rng.permutation(len(sentences))
        total = 0.0
        for first in range(0, len(order), batch_size):
            chosen = [sentences[i] for i in order[first : first + batch_size]]
            ids, lengths = reader.batch([sentence for sentence, _ in chosen])
            # Some words are made unknown, so that an unknown word is nothing new in the test.
            ids[(rng.random(ids.shape) < 0.1) & (ids != PADDING)] = UNKNOWN
            targets = np.array([intent for _, intent in chosen])
            (logits, _), pullback = reader.model.vjp(ids, lengths=lengths)
            loss, d_logits = losses.cross_entropy(logits, targets)
            optimizer.zero_grad()
            pullback(d_logits)
            optim.clip_grad_norm(parameters, 1.0)
            optimizer.step()
            total += loss * len(chosen)
        if epoch % 5 == 4:
            print(f"epoch {epoch + 1}: loss {total / len(order):.4f}")


def plot(reader: Reader, sentences: list[Sentence]) -> None:
    """Draw how often each intent is taken for each."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:  # the picture is an extra
        return
    answers = reader.intents([sentence for sentence, _ in sentences])
    counts = np.zeros((len(NAMES), len(NAMES)))
    np.add.at(counts, ([intent for _, intent in sentences], answers), 1)
    shares = counts / counts.sum(axis=1, keepdims=True)
    _, axes = plt.subplots(figsize=(6.4, 5.4))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(counts):
        color = "white" if shares[row, column] > 0.5 else "black"
        label = f"{shares[row, column]:.0%}"
        axes.text(column, row, label, ha="center", va="center", color=color, fontsize=9)
    axes.set_xticks(range(len(NAMES)), NAMES, rotation=45, ha="right")
    axes.set_yticks(range(len(NAMES)), NAMES)
    axes.set(xlabel="understood", ylabel="meant", title="Sentences of templates not seen")
    plt.show()


def main(epochs: int = 15, draw: bool = False) -> float:
    """Train and return the share of the test sentences of other templates that are understood."""
    sentences, same, other = make_sentences()
    reader = Reader(sentences)
    train(reader, sentences, epochs)
    asked = [
        "What time is it?",
        "Hey, could you tell me what the time is?",
        "Will I need my umbrella in London tomorrow?",
        "Please wake me at a quarter to six",
        "Play the first song of that new album",
        "The garage is too dark",
        "Call the plumber, please",
        "We have no butter, put it on the list",
    ]
    for sentence, intent in zip(asked, reader.intents([words(s) for s in asked]), strict=True):
        print(f"{sentence:45} {NAMES[intent]}")
    print(f"{len(sentences)} training sentences, {len(NAMES)} intents, {len(reader.ids)} words")
    print(f"{len(same)} other sentences of the same templates: {reader.accuracy(same):.1%}")
    right = reader.accuracy(other)
    print(f"{len(other)} sentences of templates not seen: {right:.1%}")
    if draw:
        plot(reader, other)
    return right


if __name__ == "__main__":
    main(draw=True)
