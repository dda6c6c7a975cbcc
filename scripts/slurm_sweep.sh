#!/usr/bin/env bash
# A sweep on a SLURM cluster: each job is a task of one job array, with a GPU and four cores of its own.
#
#   uv sync --extra slurm
#   bash scripts/slurm_sweep.sh vary=[seeds,losses] data=image_folder data.root=/data/images
#
# Run it on a login node, in tmux or with nohup: this process waits for the jobs, then prints the table and writes the
# report. If it ends before, the jobs continue; `medsynth sweep resume=multirun/...` does what is left. A job that reaches
# its time limit is asked to stop two minutes before, queued again, and resumes where it stopped.
# PARTITION, HOURS, GPUS, PARALLEL and RESTARTS (how often a job is queued again) are taken from the environment.
set -euo pipefail

exec medsynth train -m \
    hydra/launcher=submitit_slurm \
    hydra.launcher.partition="${PARTITION:-gpu}" \
    hydra.launcher.timeout_min=$((${HOURS:-24} * 60)) \
    hydra.launcher.gpus_per_node="${GPUS:-1}" \
    hydra.launcher.cpus_per_task=4 \
    hydra.launcher.mem_gb=32 \
    hydra.launcher.array_parallelism="${PARALLEL:-16}" \
    hydra.launcher.max_num_timeout="${RESTARTS:-10}" \
    hydra.launcher.signal_delay_s=120 \
    +hydra.launcher.additional_parameters.requeue=true \
    sweep.keep=last \
    "$@"
