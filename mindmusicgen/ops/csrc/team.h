/* The thread team of kernels.c, for the kernels of all files. */

#ifndef MINDMUSICGEN_TEAM_H
#define MINDMUSICGEN_TEAM_H

#include <stdint.h>

typedef void (*task_function)(const void *arguments, int64_t task);

/* Run function(arguments, 0 .. tasks - 1), each once, on the team; alone when another thread has the team. */
void team_run(task_function function, const void *arguments, int64_t tasks);

/* Threads that a job may use, the caller included; a guess before the first job. */
int team_size(void);

#endif
