"""What the benchmarks find, as data.

A report is one JSON object of exactly these fields; ``report.schema.json`` describes each. Times are
milliseconds by the clock, memory is MiB, shares are fractions of 1.
"""

from dataclasses import dataclass

from train.evaluate import Evaluation

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Estimate:
    """A figure between the limits of its 95 % interval; NaN (null in JSON) where it cannot be computed."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Unmeasured:
    """Something that has no figures: left out (``failed`` False) or gone wrong, and why.

    ``section``: of the report, such as ``latency``.
    """

    section: str
    what: str
    why: str
    failed: bool


@dataclass(frozen=True)
class MachineState:
    """The machine at one moment.

    ``time``: ISO 8601, UTC. ``load_average``: over 1, 5 and 15 minutes. ``clock_mhz``: of each core.
    ``throttled``: what a Raspberry Pi's firmware says slowed it down now or since it started, in words. None
    stands for what this machine does not tell.
    """

    time: str
    load_average: tuple[float, float, float]
    governors: tuple[str, ...]
    clock_mhz: tuple[float, ...]
    temperature_c: float | None
    throttled: tuple[str, ...] | None


@dataclass(frozen=True)
class Machine:
    """What the figures were measured on.

    ``board``: a single-board computer's own name. ``features``: of the processor, those that the kernels of
    the runtimes choose by (such as avx2, avx512_vnni, asimddp, i8mm). ``virtual``: a hypervisor is below.
    ``versions``: of Python and of each library that was used, by name. ``disturbed``: what spoils the
    figures, a sentence each; empty for a quiet run.
    """

    processor: str
    board: str | None
    architecture: str
    features: tuple[str, ...]
    cores: int
    memory_mib: float
    virtual: bool
    system: str
    versions: dict[str, str]
    before: MachineState
    after: MachineState
    disturbed: tuple[str, ...]


@dataclass(frozen=True)
class Variant:
    """One file that a trained network was made into.

    ``model``: name of the trained network; ``name``: a recipe of `convert.recipes`, or ``keras``;
    ``sha256``: of the whole file. ``side_px``: of the crops. ``operations``: two for each multiplication
    with its addition, of one crop; it and ``parameters`` are None where LiteRT is not installed, whose
    description of the file they are counted by.
    """

    model: str
    name: str
    file: str
    sha256: str
    file_bytes: int
    side_px: int
    parameters: int | None
    operations: int | None


@dataclass(frozen=True)
class Latency:
    """One variant on one runtime: time from a crop to its logits, one crop at a time.

    ``variant``: as in `Variant`, or a peer's own name for what it runs. ``xnnpack``: None where the runtime
    has no such choice. ``invocations``: timed, of ``asked``, in so many ``turns``, each begun with untimed
    ones. Intervals come from resampling turns. ``ratio``: median time over that of the reference contender
    in the same rounds; None for a run without it. ``load_ms``: from an imported runtime to a model ready to
    run; ``first_ms``: the first invocation; ``peak_mib``: the most memory that the fresh process had, and
    ``runtime_mib`` of it before the model was loaded. ``quantiles_ms``: 101 of them, from 0 to 100 %.
    ``disturbed_turns``: those in which something else held the processor.
    """

    model: str
    variant: str
    runtime: str
    version: str
    xnnpack: bool | None
    threads: int
    asked: int
    invocations: int
    turns: int
    disturbed_turns: int
    min_ms: float
    mean_ms: Estimate
    p50_ms: Estimate
    p90_ms: Estimate
    p99_ms: Estimate
    ratio: Estimate | None
    load_ms: float
    first_ms: float
    runtime_mib: float
    peak_mib: float
    gop_per_s: float | None
    quantiles_ms: tuple[float, ...]


@dataclass(frozen=True)
class LayerTime:
    """One operator of a network: its place, what it is, its layer's short name, operations, and its time.

    Times and shares add up to the whole; noise can make those of a short operator negative.
    """

    index: int
    operator: str
    output: str
    shape: tuple[int, ...]
    operations: int
    ms: Estimate
    share: float


@dataclass(frozen=True)
class LayerTimes:
    """Where a network's time goes. ``method``: how that was found out, in a sentence."""

    model: str
    variant: str
    runtime: str
    threads: int
    method: str
    whole_ms: float
    layers: tuple[LayerTime, ...]


@dataclass(frozen=True)
class Comparison:
    """A variant against ``reference`` on the same cells of one data set.

    The reference is the Keras network, or the float32 variant where Keras is not run, as on a device.
    ``agreement``: share of the cells found that are given the same class. ``accuracy_difference``: variant
    less reference. Both per file, with intervals from resampling originals. By original, since copies of one
    are not independent: ``only_keras_right`` (only the reference, whichever it is) and ``only_variant_right``
    count originals, ``mcnemar_p`` is the exact two-sided probability of a difference as large if both were
    equally often right.
    """

    agreement: Estimate
    accuracy_difference: Estimate
    largest_probability_difference: float
    only_keras_right: int
    only_variant_right: int
    mcnemar_p: float
    reference: str = "keras"


@dataclass(frozen=True)
class Accuracy:
    """One variant on one data set. ``comparison``: None for its reference itself, and without one.

    So that two reports can be compared cell by cell: ``cells_sha256`` of the originals and labels of all the
    files, in the order of the originals' names; ``right_per_original``: of each original in that order, how
    many of its files were given the right class, and how many files it has.

    ``missing``: classes of which the data set has no cell. Their recall is not known, and the balanced
    accuracy is that of the other classes.
    """

    model: str
    variant: str
    runtime: str
    version: str
    evaluation: Evaluation
    comparison: Comparison | None
    cells_sha256: str
    right_per_original: tuple[tuple[int, int], ...]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class TensorNoise:
    """Signal-to-quantisation-noise ratio of one tensor, in decibels, over the crops that were shown.

    ``sqnr_db``: in the network as it runs. ``step_db``: of the same operator alone, given the same input as
    the reference's, so of the noise that this step brings. Both with intervals from resampling crops; NaN
    where there is no noise at all, or no signal. ``index``: place in the order of execution.
    """

    index: int
    operator: str
    output: str
    shape: tuple[int, ...]
    sqnr_db: Estimate
    step_db: Estimate


@dataclass(frozen=True)
class QuantisationNoise:
    """Where the error grows through a quantised network, in order of execution.

    ``worst``: outputs of the steps that bring most noise, by ``step_db``, the worst first. ``unmatched``:
    outputs that the reference has no counterpart of, so not among ``tensors``.
    """

    model: str
    variant: str
    reference: str
    crops: int
    tensors: tuple[TensorNoise, ...]
    worst: tuple[str, ...]
    unmatched: tuple[str, ...] = ()


@dataclass(frozen=True)
class Throughput:
    """Frames to counted cells, at a number of cells a frame.

    ``source``: drawn or real fields. ``cells_per_frame``: leukocytes in each field; ``named_per_frame``: how
    many the network named in each frame looked at. Unpaced: ``frames_per_s`` with ``step_ms`` (processor
    time of each step a frame), ``outside_ms`` (all processor time a frame but capture and invoke) and
    ``cells_per_min`` counted. Paced like a camera of ``camera_fps``: ``dropped`` of ``offered`` frames were
    overtaken by newer ones, and ``lost``. ``memory_mib``: pairs of a frame's number and the resident memory
    then; ``growth_mib``: since the 1000th (or the middle of a shorter run); ``first_s``: start of the process
    to the first named cell, NaN where none is.
    """

    source: str
    cells_per_frame: int
    frames: int
    looked_at: int
    cells_in_view: int
    named: int
    counted: int
    frames_per_s: float
    named_per_frame: float
    cells_per_min: float
    step_ms: dict[str, float]
    outside_ms: float
    camera_fps: float
    offered: int
    dropped: int
    lost: int
    memory_mib: tuple[tuple[int, float], ...]
    growth_mib: float
    first_s: float


@dataclass(frozen=True)
class Peer:
    """Another way to run the same weights: whether it gives our answers, and how long it takes.

    Our own ways are rows too, to be compared with. ``model``: as in `Variant`. ``what``: in a sentence.
    ``cells``: on which its answers were held against those of ``ours`` (a variant on LiteRT) before it was
    timed. ``agreement``: share of the same class; ``right``: whether it answers as `benchmarks.peers.Limits`
    ask. ``latency``: None where it was not timed, because it answers differently.
    """

    model: str
    name: str
    what: str
    threads: int
    ours: str
    cells: int
    agreement: float
    largest_probability_difference: float
    right: bool
    latency: Latency | None


@dataclass(frozen=True)
class Report:
    """One run. A section that was not asked for is empty. ``arguments``: of the command, as typed."""

    format_version: int
    hematovision: str
    command: str
    arguments: tuple[str, ...]
    started: str
    seconds: float
    machine: Machine
    variants: tuple[Variant, ...]
    latency: tuple[Latency, ...] = ()
    layers: tuple[LayerTimes, ...] = ()
    accuracy: tuple[Accuracy, ...] = ()
    noise: tuple[QuantisationNoise, ...] = ()
    throughput: tuple[Throughput, ...] = ()
    peers: tuple[Peer, ...] = ()
    unmeasured: tuple[Unmeasured, ...] = ()
