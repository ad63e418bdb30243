"""Measuring how well backbones and methods retrieve: tasks, rankings, metrics, statistics, the benchmark."""
