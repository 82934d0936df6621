"""All plots of a report."""

from benchmarks import plot_accuracy, plot_speed
from benchmarks.plot_style import Plot, style
from benchmarks.results import Report


def all_plots(report: Report) -> list[Plot]:
    """Of each section that is filled, in the order of the page."""
    with style():
        plots = [
            plot_accuracy.accuracy_latency(report),
            plot_accuracy.accuracy_change(report),
            plot_speed.latency(report),
            plot_speed.latency_spread(report),
            plot_speed.size_and_memory(report),
            plot_speed.layers(report),
            *plot_accuracy.confusions(report),
            plot_accuracy.noise(report),
            plot_speed.throughput(report),
            plot_speed.peers(report),
        ]
    return [plot for plot in plots if plot]
