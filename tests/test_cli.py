"""The command line, in this process through `cli.main` and as a process of its own."""

import csv
import fcntl
import json
import os
import runpy
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

import fastrnn
from fastrnn import Trainer, cli, text

TEXT = "the cat sat on the mat; the dog sat on the log.\n" * 40
TINY = ("--hidden", "6", "--layers", "1", "--seq-len", "8", "--batch", "4", "--threads", "1")
COMMANDS = (
    *("train", "sample", "eval", "inspect", "export", "quantize", "forecast", "serve"),
    *("info", "bench"),
)
COMMAND = (sys.executable, "-c", "import sys; from fastrnn.cli import main; sys.exit(main())")

pytestmark = pytest.mark.usefixtures("set_num_threads")  # --threads is undone after each test


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """A folder of its own as the working directory, with texts good and bad."""
    monkeypatch.chdir(tmp_path)
    Path("good.txt").write_text(TEXT)
    Path("empty.txt").write_bytes(b"")
    Path("latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    Path("short.txt").write_text("short")
    Path("greek.txt").write_text("αβγδε" * 20, encoding="utf-8")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a model that was trained for two epochs, and what --json said of it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "good.txt").write_text(TEXT)
    arguments = ("train", "good.txt", *TINY, "--epochs", "2", "--out", "model", "--json")
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return folder / "model", json.loads(done.stdout.splitlines()[-1])


def one_line(capsys):
    """What a failed command said: nothing on standard output, one line on standard error."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err


# --- train ----------------------------------------------------------------------------------------


def test_train_reports_and_saves(capsys):
    status = cli.main(["train", "good.txt", *TINY, "--epochs", "3", "--out", "a/b", "--json"])
    out, err = capsys.readouterr()
    assert status == 0
    assert err == ""  # progress is for terminals and long trainings
    lines = out.splitlines()
    assert lines[0] == "good.txt: 1,920 characters, 16 different"
    assert [line.split(":")[0] for line in lines[2:5]] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    report = json.loads(lines[-1])
    assert report["epochs"] == 3
    assert report["interrupted"] is False
    assert report["threads"] == 1
    assert report["isa"] == fastrnn.config()["isa"]
    assert report["seconds_per_epoch"] > 0
    assert report["characters_per_second"] > 0
    assert f"train {report['train_loss']:.4f}, validation {report['validation_loss']:.4f}" in out
    loaded = text.load_model("a/b/model.safetensors")
    assert report["parameters"] == loaded.model.num_parameters()
    assert loaded.metadata["validation_loss"] == report["validation_loss"]
    assert loaded.recipe == text.Recipe(hidden=6, layers=1, seq_len=8, batch=4, epochs=3)
    kept = {name for name in os.listdir("a/b") if not name.startswith("events.out.tfevents.")}
    assert kept == {
        *("model.safetensors", "checkpoint.safetensors", "config.toml", "log.csv", "log.jsonl")
    }
    with open("a/b/log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert float(rows[-1]["validation_loss"]) == report["validation_loss"]


def test_defaults_are_the_recipe(monkeypatch):
    seen = []
    monkeypatch.setattr(text, "Training", lambda _, recipe: seen.append(recipe) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["train", "good.txt"])
    assert seen == [text.Recipe()]
    assert text.Recipe() == text.Recipe(
        cell="lstm", hidden=128, layers=2, dropout=0.0, seq_len=50, batch=50, epochs=10, lr=2e-3,
        clip=5.0, seed=1, optimizer="rmsprop", schedule="late", clip_norm=0.0, patience=0,
    )  # fmt: skip


def test_every_option_arrives():
    options = {
        "cell": "gru", "hidden": 3, "layers": 2, "dropout": 0.25, "seq_len": 9, "batch": 2,
        "epochs": 1, "lr": 0.01, "clip": 0.5, "seed": 7, "optimizer": "adam", "schedule": "cosine",
        "clip_norm": 2.0, "patience": 3,
    }  # fmt: skip
    flags = [part for k, v in options.items() for part in (f"--{k.replace('_', '-')}", str(v))]
    assert cli.main(["train", "good.txt", *flags]) == 0
    loaded = text.load_model("fastrnn-model/model.safetensors")
    assert loaded.recipe == text.Recipe(**options)
    assert type(loaded.model[0]) is fastrnn.GRU
    assert loaded.model[0].dropout == 0.25


def test_training_repeats_with_its_seed(trained):
    _, report = trained
    assert cli.main(["train", "good.txt", *TINY, "--epochs", "2", "--out", "again"]) == 0
    again = text.load_model("again/model.safetensors").metadata
    assert again["validation_loss"] == report["validation_loss"]
    assert again["train_loss"] == report["train_loss"]


def test_time_limit_ends_within_an_epoch(capsys):
    arguments = [*TINY, "--epochs", "1000", "--time-limit", "1e-9", "--out", "out", "--json"]
    assert cli.main(["train", "good.txt", *arguments]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0 < report["epochs"] < 1
    assert report["seconds_per_epoch"] is None
    assert report["validation_loss"] > 0
    assert report["interrupted"] is False


def test_divergence_ends_and_keeps_the_last_good_model(capsys, monkeypatch):
    compute_loss = Trainer.compute_loss

    def diverging(self, batch, outputs):
        loss, *rest = compute_loss(self, batch, outputs)
        return (loss if not self.history else float("nan")), *rest

    monkeypatch.setattr(Trainer, "compute_loss", diverging)
    assert cli.main(["train", "good.txt", *TINY, "--out", "out"]) == 1
    (err,) = capsys.readouterr().err.splitlines()
    assert "(epoch 2, batch 1): the loss is nan; " in err
    message = "Try a lower --lr or --clip; out/model.safetensors holds the model of epoch 1"
    assert err.endswith(message)
    assert text.load_model("out/model.safetensors").metadata["epochs"] == 1


def start(*arguments, **options):
    return subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What a shell starts in the background ignores Ctrl-C, and so would this.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


def test_ctrl_c_saves_and_says_so():
    training = start("train", "good.txt", *TINY, "--epochs", "100000", "--out", "out", "--json")
    for line in training.stdout:
        if line.startswith("epoch 1/"):
            break
    training.send_signal(signal.SIGINT)
    out, err = training.communicate(timeout=60)
    assert training.returncode == 130
    assert "Interrupted after" in err
    assert "saved out/model.safetensors" in err
    assert "Traceback" not in err
    report = json.loads(out.splitlines()[-1])
    assert report["interrupted"] is True
    metadata = text.load_model("out/model.safetensors").metadata
    assert metadata["epochs"] == report["epochs"] >= 1
    assert metadata["validation_loss"] == report["validation_loss"]


def weights(folder):
    return {
        name: array.tobytes()
        for name, array in text.load_model(f"{folder}/model.safetensors").model.state_dict().items()
    }


def test_killed_training_goes_on_and_ends_with_the_same_bits(capsys):
    options = ("train", "good.txt", *TINY, "--dropout", "0.2", "--layers", "2", "--epochs", "9")
    assert cli.main([*options, "--out", "whole"]) == 0
    for killed_after in ("epoch 2/", "epoch 5/"):
        training = start(*options, "--out", "out", "--checkpoint-every", "7", "--resume")
        for line in training.stdout:
            if line.startswith(killed_after):
                break
        training.kill()
        training.communicate()
        assert training.returncode == -signal.SIGKILL
    capsys.readouterr()
    assert cli.main(["train", "good.txt", "--out", "out", "--resume"]) == 0  # by its config.toml
    assert "\nGoing on after " in capsys.readouterr().out
    assert weights("out") == weights("whole")
    with open("out/log.csv", newline="") as file:
        assert [int(row["epoch"]) for row in csv.DictReader(file)] == list(range(1, 10))


def test_training_goes_on_within_an_epoch_after_a_time_limit(capsys):
    options = ["train", "good.txt", *TINY, "--epochs", "2"]
    assert cli.main([*options, "--out", "whole"]) == 0
    assert cli.main([*options, "--out", "out", "--time-limit", "1e-9"]) == 0
    assert "epoch 1 (2%): train " in capsys.readouterr().out
    assert cli.main([*options, "--out", "out", "--resume"]) == 0
    assert "Going on after 0 epochs, 1 windows.\n" in capsys.readouterr().out
    assert weights("out") == weights("whole")


def test_finished_training_can_be_extended(capsys):
    options = ["train", "good.txt", *TINY, "--out", "out"]
    assert cli.main([*options, "--epochs", "1"]) == 0
    assert cli.main([*options, "--epochs", "3", "--resume"]) == 0
    assert cli.main(["train", "good.txt", *TINY, "--epochs", "3", "--out", "whole"]) == 0
    assert weights("out") == weights("whole")


def test_resume_without_a_checkpoint_begins_anew(capsys):
    options = ["train", "good.txt", *TINY, "--epochs", "1"]
    assert cli.main([*options, "--out", "out", "--resume"]) == 0
    assert "No checkpoint in out: training begins anew.\n" in capsys.readouterr().out


def test_patience_keeps_the_best_model(capsys):
    Path("turn.txt").write_text("ab" * 300 + "ba" * 5 + "bbaa" * 10)
    options = ("--hidden", "4", "--seq-len", "10", "--batch", "2", "--lr", "0.03", "--json")
    arguments = ["train", "turn.txt", *options, "--layers", "1", "--patience", "2"]
    assert cli.main([*arguments, "--epochs", "50", "--out", "out"]) == 0
    *_, said, saved, _, last = capsys.readouterr().out.splitlines()
    report = json.loads(last)
    with open("out/log.csv", newline="") as file:
        losses = [float(row["validation_loss"]) for row in csv.DictReader(file)]
    assert report["validation_loss"] == min(losses)
    assert report["epochs"] == losses.index(min(losses)) + 1 == len(losses) - 2
    assert said == f"The best of {len(losses)} epochs was epoch {report['epochs']}."
    assert saved == "Saved out/model.safetensors. Let it write:"
    assert cli.main(["eval", "out", "turn.txt", "--validation", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] == min(losses)


def test_what_does_not_fit_the_checkpoint_is_one_line(capsys):
    options = ["train", "good.txt", *TINY, "--epochs", "1", "--out", "out"]
    assert cli.main(options) == 0
    before = Path("out/config.toml").read_bytes()
    for change, message in (
        (["--hidden", "7"], "hidden: expected 6 as in this checkpoint, got 7"),
        (["--batch", "5"], "batch: expected 4 as in this checkpoint, got 5"),
    ):
        capsys.readouterr()
        assert cli.main([*options, *change, "--resume"]) == 2
        err = capsys.readouterr().err
        assert err == f"fastrnn train: out/checkpoint.safetensors: {message}\n"
    assert Path("out/config.toml").read_bytes() == before
    Path("out/checkpoint.safetensors").write_bytes(b"nonsense")
    assert cli.main([*options, "--resume"]) == 2
    message = "out/checkpoint.safetensors: not a whole safetensors file"
    assert message in capsys.readouterr().err


def test_a_terminal_gets_a_progress_bar():
    leader, follower = os.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    training = subprocess.Popen(
        [*COMMAND, "train", "good.txt", *TINY, "--epochs", "100000", "--time-limit", "0.5"],
        stdout=subprocess.DEVNULL,
        stderr=follower,
    )
    os.close(follower)
    seen = b""
    try:
        while chunk := os.read(leader, 4096):
            seen += chunk
    except OSError:  # how Linux says that the other side is closed
        pass
    os.close(leader)
    assert training.wait(timeout=60) == 0
    for part in ("epoch ", "%|", "loss ", " char/s, ", ":0", " left"):
        assert part in seen.decode()


# --- sample, eval, info ---------------------------------------------------------------------------


def test_sample_writes_prime_and_length(trained, capsys):
    folder, _ = trained
    arguments = ["--length", "30", "--prime", "the ", "--seed", "3"]
    outputs = []
    for model in (folder, folder / "model.safetensors"):
        assert cli.main(["sample", str(model), *arguments]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert outputs[0].startswith("the ")
    assert len(outputs[0]) == len("the ") + 30 + len("\n")


def test_sample_from_the_likeliest_alone(trained, capsys):
    folder, _ = trained

    def write(*options):
        assert cli.main(["sample", str(folder), "--length", "60", "--seed", "3", *options]) == 0
        return capsys.readouterr().out

    best = write("--temperature", "0")
    assert write("--top-k", "1") == write("--top-p", "1e-9") == best
    assert write("--top-k", "99") == write("--top-p", "1") == write() != best
    assert write("--top-k", "3") != write("--top-p", "0.5")


def test_eval_of_the_validation_part_is_what_train_measured(trained, capsys):
    folder, report = trained
    assert cli.main(["eval", str(folder), "good.txt", "--validation", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["loss"] == report["validation_loss"]
    assert measured["characters"] == (len(TEXT) // 20 - 1) // 4 * 4
    assert cli.main(["eval", str(folder), "good.txt"]) == 0
    assert "nats/char" in capsys.readouterr().out


def test_eval_replaces_unknown_characters(trained, capsys):
    folder, _ = trained
    assert cli.main(["eval", str(folder), "greek.txt", "--unknown", "t"]) == 0
    assert "over 96 characters" in capsys.readouterr().out


def test_info(trained, capsys):
    assert cli.main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["version"] == fastrnn.__version__
    assert facts["isa"] in facts["isas_built"]
    assert cli.main(["info"]) == 0
    assert f"version          {fastrnn.__version__}\n" in capsys.readouterr().out
    folder, report = trained
    assert cli.main(["info", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "hidden           6\n" in out
    assert f"validation loss  {report['validation_loss']:.5g}\n" in out
    assert r"characters       '\n .;acdeghlmnost'" in out


# --- help and errors ------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], *[[name] for name in COMMANDS]])
def test_help_fits_a_terminal(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main([*command, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: fastrnn")
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("module", ["fastrnn", "fastrnn.cli"])
def test_it_runs_as_a_module(module):
    command = [sys.executable, "-m", module, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"fastrnn {fastrnn.__version__}\n"


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"fastrnn {fastrnn.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train missing.txt", "fastrnn train: missing.txt: No such file or directory"),
        ("train .", "fastrnn train: .: Is a directory"),
        ("train empty.txt", "fastrnn train: empty.txt: the file is empty"),
        ("train latin.txt", "fastrnn train: latin.txt: not UTF-8 text (byte 0xe9 at offset 3)"),
        (
            "train short.txt",
            "fastrnn train: short.txt: expected more than 2,500 characters to train on "
            "(50 streams, windows of 50) and more than 50 to validate on, got 4 and 1",
        ),
        ("train good.txt --hidden 0", "fastrnn train: --hidden: expected at least 1, got 0"),
        ("train good.txt --hidden x", "fastrnn: argument --hidden: invalid int value: 'x'"),
        ("train good.txt --seq-len 0", "fastrnn train: --seq-len: expected at least 1, got 0"),
        ("train good.txt --lr 0", "fastrnn train: --lr: expected a number above 0, got 0.0"),
        ("train good.txt --lr nan", "fastrnn train: --lr: expected at least 0.0, got nan"),
        ("train good.txt --clip -1", "fastrnn train: --clip: expected at least 0.0, got -1.0"),
        ("train good.txt --dropout 2", "fastrnn train: --dropout: expected a number from 0.0"),
        ("train good.txt --cell foo", "fastrnn train: --cell: expected one of lstm, gru, rnn"),
        ("train good.txt --optimizer x", "--optimizer: expected one of rmsprop, adam, adamw, sgd"),
        ("train good.txt --schedule x", "--schedule: expected one of late, constant,"),
        ("train good.txt --patience -1", "--patience: expected at least 0, got -1"),
        ("train good.txt --clip-norm -1", "--clip-norm: expected at least 0.0, got -1.0"),
        (
            "train good.txt --checkpoint-every 0",
            "fastrnn train: --checkpoint-every: expected a number above 0, got 0",
        ),
        ("train good.txt --threads 0", "fastrnn train: --threads: expected at least 1, got 0"),
        ("train good.txt --seed -1", "fastrnn train: --seed: expected at least 0, got -1"),
        (
            "train good.txt --time-limit 0",
            "fastrnn train: --time-limit: expected a number above 0, got 0.0",
        ),
        ("train good.txt --seq-len 8 --batch 4 --out good.txt", "--out: good.txt: File exists"),
        (
            "train good.txt --seq-len 8 --batch 4 --layers 100000000",
            "fastrnn train: num_layers: expected at most",
        ),
        ("train good.txt --nonsense", "fastrnn: unrecognized arguments: --nonsense"),
        ("train", "arguments are required: FILE (see fastrnn train --help)"),
        ("", "arguments are required: COMMAND (see fastrnn --help)"),
        ("nonsense", "invalid choice: 'nonsense'"),
        ("sample missing", "fastrnn sample: missing: No such file or directory"),
        ("sample .", "fastrnn sample: model.safetensors: No such file or directory"),
        ("sample good.txt", "fastrnn sample: good.txt: not a whole safetensors file"),
        ("sample MODEL --length -1", "fastrnn sample: --length: expected at least 0, got -1"),
        ("sample MODEL --seed -1", "fastrnn sample: --seed: expected at least 0, got -1"),
        ("sample MODEL --temperature -1", "--temperature: expected at least 0.0, got -1.0"),
        ("sample MODEL --top-k 0", "fastrnn sample: --top-k: expected at least 1, got 0"),
        ("sample MODEL --top-p 0", "fastrnn sample: --top-p: expected a number above 0, got 0.0"),
        ("sample MODEL --top-p 2", "--top-p: expected a number from 0.0 to 1.0, got 2.0"),
        ("sample MODEL --prime é", "--prime: character 'é' (U+00E9) at position 0 is not among"),
        ("eval MODEL missing.txt", "fastrnn eval: missing.txt: No such file or directory"),
        ("eval MODEL empty.txt", "fastrnn eval: empty.txt: the file is empty"),
        ("eval MODEL latin.txt", "fastrnn eval: latin.txt: not UTF-8 text"),
        ("eval MODEL greek.txt", "greek.txt: character 'α' (U+03B1) at position 0 is not among"),
        ("eval MODEL greek.txt --unknown x", "--unknown: expected a character that the model"),
        (
            "eval MODEL short.txt --validation",
            "short.txt: expected more than 4 characters (the streams the model was trained with), "
            "got 1",
        ),
        ("info missing", "fastrnn info: missing: No such file or directory"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, message, trained, capsys):
    folder, _ = trained
    before = sorted(Path().rglob("*"))
    assert cli.main([str(folder) if a == "MODEL" else a for a in arguments.split()]) == 2
    assert message in one_line(capsys)
    assert sorted(Path().rglob("*")) == before  # nothing is left behind


@pytest.mark.parametrize(
    ("arguments", "modules", "message"),
    [
        ("train good.txt", ("safetensors", "tqdm"), "safetensors and tqdm"),
        ("train good.txt", ("tqdm",), "tqdm"),
        ("sample MODEL", ("safetensors",), "safetensors"),
        ("eval MODEL good.txt", ("safetensors",), "safetensors"),
        ("info MODEL", ("safetensors",), "safetensors"),
    ],
)
def test_a_missing_extra_is_named(arguments, modules, message, trained, capsys, monkeypatch):
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    folder, _ = trained
    assert cli.main([str(folder) if a == "MODEL" else a for a in arguments.split()]) == 2
    command = arguments.split()[0]
    expected = f"fastrnn {command}: needs {message}: pip install 'fastrnn[train]'\n"
    assert one_line(capsys) == expected


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_folder_without_permission_is_named(capsys):
    os.mkdir("locked", 0o500)
    assert cli.main(["train", "good.txt", *TINY, "--out", "locked"]) == 2
    assert "--out: locked: no permission to write there" in one_line(capsys)


def test_a_failed_save_is_one_line_and_status_1(capsys):
    Path("out/model.safetensors").mkdir(parents=True)
    assert cli.main(["train", "good.txt", *TINY, "--out", "out"]) == 1
    assert "fastrnn train: out/model.safetensors: Is a directory\n" in capsys.readouterr().err


def test_out_of_memory_is_one_line_and_status_1(capsys, monkeypatch):
    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr(text, "Training", no_memory)
    assert cli.main(["train", "good.txt"]) == 1
    assert one_line(capsys) == "fastrnn train: not enough memory\n"


def test_a_closed_pipe_ends_quietly(trained):
    folder, _ = trained
    writing = start("sample", str(folder), "--length", "1000000")
    writing.stdout.read(10)
    writing.stdout.close()
    assert writing.wait(timeout=60) == 1
    assert writing.stderr.read() == ""
    writing.stderr.close()


def test_ctrl_c_while_sampling_ends_with_130(trained):
    folder, _ = trained
    writing = start("sample", str(folder), "--length", "100000000")
    writing.stdout.read(10)
    writing.send_signal(signal.SIGINT)
    _, err = writing.communicate(timeout=60)
    assert writing.returncode == 130
    assert err == "fastrnn sample: interrupted\n"


def test_a_terminal_without_unicode_gets_question_marks():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    training = ("train", "greek.txt", "--hidden", "2", "--seq-len", "5", "--batch", "2")
    with start(*training, "--epochs", "1", "--out", "m", env=environment) as process:
        assert process.communicate(timeout=60)[1] == ""
    with start("sample", "m", "--length", "9", "--prime", "αβ", env=environment) as process:
        assert process.communicate(timeout=60) == ("?" * 11 + "\n", "")


# --- the demonstration ----------------------------------------------------------------------------

DEMO = Path(__file__).parent.parent / "examples" / "demo.py"


def test_demo_trains_and_samples(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["demo.py", "--seconds", "0.2"])
    runpy.run_path(str(DEMO), run_name="__main__")
    out = capsys.readouterr().out
    for part in ("validation ", " nats/char", "--temperature 0.3", "--temperature 0.7", "YOUR.txt"):
        assert part in out
    assert out.count("\nThe ") == 4  # three samples, and the last words
    assert text.load_model("build/demo/model.safetensors").recipe.hidden == 128


def test_demo_text_without_pydoc_data(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    found, name = runpy.run_path(str(DEMO))["find_text"]()
    assert name == "the sources of Python's standard library"
    assert len(found) == 1_000_000
