#!/bin/sh
# What `make first-task` runs: docs/tutorial/your_first_task.md with the task as it is written, in few episodes and steps.
# $1: the folder of the environment's programs. Nothing is left behind.
set -e
PATH="$1:$PATH"
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
cd "$folder"
export PYTHONPATH="$folder/site" OMP_NUM_THREADS=1
physai task new line_up
python -m pip install --quiet --no-build-isolation --no-deps --target site ./physai-task-line-up
physai task check line_up
python -m pytest -q -p no:cacheprovider physai-task-line-up
physai demos --task line_up --sight truth --episodes 8 --workers 1
physai train policy --task line_up --steps 40
physai export --task line_up --out site/physai_task_line_up/models
physai eval --task line_up --world-model off --sight truth --episodes 2 --workers 1
