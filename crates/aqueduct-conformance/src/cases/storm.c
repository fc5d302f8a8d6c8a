/* Interrupts every other thread of the process, all the time, without SA_RESTART. */
#define _GNU_SOURCE
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile unsigned long handled;

static void handle(int signal)
{
    (void)signal;
    __atomic_fetch_add(&handled, 1, __ATOMIC_RELAXED);
}

static void *storm(void *unused)
{
    (void)unused;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    pid_t self = (pid_t)syscall(SYS_gettid);
    for (;;) {
        DIR *tasks = opendir("/proc/self/task");
        struct dirent *entry;
        while (tasks != NULL && (entry = readdir(tasks)) != NULL) {
            int thread = atoi(entry->d_name);
            if (thread > 0 && thread != self)
                syscall(SYS_tgkill, getpid(), thread, SIGURG);
        }
        if (tasks != NULL)
            closedir(tasks);
        usleep(500);
    }
    return NULL;
}

__attribute__((constructor)) static void begin(void)
{
    struct sigaction action = {.sa_handler = handle};
    pthread_t thread;
    sigaction(SIGURG, &action, NULL);
    pthread_create(&thread, NULL, storm, NULL);
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("AQUEDUCT_CONFORMANCE_SIGNALS");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (file != NULL) {
        fprintf(file, "%lu\n", handled);
        fclose(file);
    }
}
