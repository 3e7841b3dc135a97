"""All exercises by name, in the order of the course."""

from . import delay, guidance, padding, positions, quantisation, sampling

EXERCISES = {
    exercise.name: exercise
    for module in (delay, guidance, sampling, positions, quantisation, padding)
    for exercise in module.EXERCISES
}
