/* What only a caller of the C library can ask of a queue. Prints a line for each check. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *name;
static struct mq_attr attr = { .mq_maxmsg = 2, .mq_msgsize = 8 };

/* The queue of this name, new and open for both. */
static mqd_t fresh(int flags) {
    mq_unlink(name);
    return mq_open(name, O_RDWR | O_CREAT | O_EXCL | flags, 0600, &attr);
}

static void check(const char *row, int held) {
    printf("%s %s\n", row, held ? "holds" : strerror(errno));
    fflush(stdout);
}

static int is(int result, int number) {
    return result == -1 && errno == number;
}

static int notify(mqd_t q) {
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
    return mq_notify(q, &event);
}

/* Whether the signal is there; takes it. */
static int told(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    struct timespec none = { 0, 0 };
    return sigtimedwait(&set, NULL, &none) == SIGUSR1;
}

static void ignore(int signal) { (void)signal; }

static void tick(long microseconds) {
    struct itimerval timer = { { 0, microseconds }, { 0, microseconds } };
    setitimer(ITIMER_REAL, &timer, NULL);
}

/* Waits until a process sleeps. */
static void asleep(pid_t pid) {
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    while (state != 'S') {
        FILE *stat = fopen(path, "r");
        if (!stat || fscanf(stat, "%*d (%*[^)]) %c", &state) != 1) return;
        fclose(stat);
    }
}

/* A process that blocks in mq_receive, and that it does. */
static pid_t receiver(mqd_t q) {
    int begun[2];
    char byte;
    if (pipe(begun)) return -1;
    pid_t pid = fork();
    if (pid == 0) {
        char buffer[8];
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (write(begun[1], "x", 1) != 1) _exit(1);
        _exit(mq_receive(q, buffer, 8, NULL) == 1 ? 0 : 2);
    }
    if (read(begun[0], &byte, 1) != 1) return -1;
    asleep(pid);
    return pid;
}

static void notifications(void) {
    char buffer[8];
    mqd_t q = fresh(O_NONBLOCK);
    check("notify_registers", notify(q) == 0 && !told());
    check("notify_tells_of_a_message", mq_send(q, "1", 1, 0) == 0 && told());
    mq_receive(q, buffer, 8, NULL);
    check("notify_tells_once", mq_send(q, "2", 1, 0) == 0 && !told());
    check("notify_needs_an_empty_queue",
          notify(q) == 0 && mq_send(q, "3", 1, 0) == 0 && !told());
    mq_receive(q, buffer, 8, NULL);
    mq_receive(q, buffer, 8, NULL);
    check("notify_is_busy", is(notify(q), EBUSY));
    check("notify_null_removes",
          mq_notify(q, NULL) == 0 && mq_send(q, "4", 1, 0) == 0 && !told() && notify(q) == 0);
    mq_notify(q, NULL);
    mq_receive(q, buffer, 8, NULL);
    notify(q);
    mq_close(q);
    q = mq_open(name, O_RDWR);
    check("close_removes_the_notification", notify(q) == 0);
    mq_notify(q, NULL);
    pid_t pid = receiver(q);
    int status = 1;
    check("notify_yields_to_a_blocked_receiver",
          pid > 0 && notify(q) == 0 && mq_send(q, "5", 1, 0) == 0 && waitpid(pid, &status, 0) == pid
              && status == 0 && !told() && is(notify(q), EBUSY));
    mq_close(q);
    struct sigevent odd = { .sigev_notify = 77 };
    q = fresh(0);
    check("notify_refuses_an_unknown_kind", is(mq_notify(q, &odd), EINVAL));
    mq_close(q);
}

static void times(void) {
    char buffer[8];
    struct timespec past = { 1, 0 }, odd = { 1, -1 }, large = { 1, 1000000000 };
    mqd_t q = fresh(0);
    check("timedreceive_past_is_a_timeout", is(mq_timedreceive(q, buffer, 8, NULL, &past), ETIMEDOUT));
    check("timedreceive_refuses_odd_times",
          is(mq_timedreceive(q, buffer, 8, NULL, &odd), EINVAL)
              && is(mq_timedreceive(q, buffer, 8, NULL, &large), EINVAL));
    check("timedsend_with_room_ignores_the_time", mq_timedsend(q, "1", 1, 0, &past) == 0);
    check("timedreceive_with_a_message_ignores_the_time",
          mq_timedreceive(q, buffer, 8, NULL, &past) == 1);
    mq_send(q, "1", 1, 0);
    mq_send(q, "2", 1, 0);
    check("timedsend_past_is_a_timeout", is(mq_timedsend(q, "3", 1, 0, &past), ETIMEDOUT));
    check("timedsend_refuses_odd_times",
          is(mq_timedsend(q, "3", 1, 0, &odd), EINVAL)
              && is(mq_timedsend(q, "3", 1, 0, &large), EINVAL));
    struct mq_attr now;
    mq_getattr(q, &now);
    check("timedsend_that_failed_sent_nothing", now.mq_curmsgs == 2);
    struct sigaction action = { .sa_handler = ignore };
    sigaction(SIGALRM, &action, NULL);
    tick(2000);
    check("send_is_interrupted", is(mq_send(q, "3", 1, 0), EINTR));
    mq_receive(q, buffer, 8, NULL);
    mq_receive(q, buffer, 8, NULL);
    check("receive_is_interrupted", is(mq_receive(q, buffer, 8, NULL), EINTR));
    tick(0);
    mq_close(q);
}

static void attributes(void) {
    mqd_t q = fresh(0);
    struct mq_attr old, now, set = { .mq_flags = O_NONBLOCK, .mq_maxmsg = 5, .mq_msgsize = 1,
                                     .mq_curmsgs = 1 };
    check("getattr_tells_the_flags", mq_getattr(q, &now) == 0 && now.mq_flags == 0);
    int done = mq_setattr(q, &set, &old) == 0 && mq_getattr(q, &now) == 0;
    check("setattr_sets_the_flags", done && now.mq_flags == O_NONBLOCK);
    check("setattr_sets_nothing_else",
          now.mq_maxmsg == 2 && now.mq_msgsize == 8 && now.mq_curmsgs == 0);
    check("setattr_gives_the_old", old.mq_flags == 0 && old.mq_maxmsg == 2 && old.mq_msgsize == 8);
    mqd_t other = mq_open(name, O_RDWR);
    mq_getattr(other, &now);
    check("setattr_is_of_one_description", now.mq_flags == 0);
    mq_close(other);
    set.mq_flags = 077777;
    check("setattr_refuses_other_flags", is(mq_setattr(q, &set, NULL), EINVAL));
    mq_close(q);
}

static void descriptors(void) {
    char buffer[8];
    struct mq_attr now;
    struct timespec past = { 1, 0 };
    mqd_t q = fresh(0);
    mq_close(q);
    check("close_twice_is_an_error", is(mq_close(q), EBADF));
    check("send_needs_a_descriptor", is(mq_send(q, "", 0, 0), EBADF));
    check("timedsend_needs_a_descriptor", is(mq_timedsend(q, "", 0, 0, &past), EBADF));
    check("receive_needs_a_descriptor", is(mq_receive(q, buffer, 8, NULL), EBADF));
    check("timedreceive_needs_a_descriptor", is(mq_timedreceive(q, buffer, 8, NULL, &past), EBADF));
    check("getattr_needs_a_descriptor", is(mq_getattr(q, &now), EBADF));
    check("setattr_needs_a_descriptor", is(mq_setattr(q, &attr, NULL), EBADF));
    check("notify_needs_a_descriptor", is(notify(q), EBADF));
    int other = open("/dev/null", O_RDWR);
    check("notify_needs_a_queue", is(notify(other), EBADF));
    close(other);
    q = fresh(0);
    check("receive_needs_a_buffer_of_the_queues_size", is(mq_receive(q, buffer, 7, NULL), EMSGSIZE));
    mq_close(q);
}

int main(int argc, char **argv) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    if (argc != 2 || sigprocmask(SIG_BLOCK, &set, NULL)) return 1;
    name = argv[1];
    notifications();
    times();
    attributes();
    descriptors();
    mq_unlink(name);
    return 0;
}
