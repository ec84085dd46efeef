/* Loaded ahead of libc: counts the calls that change files, and ends the process at one of them.

   The way it ends: 0 kills the process; 1 first writes half of what was to be written; 2 cuts the power, so that
   everything written to a file since its last sync is gone. The real power stays on, so that nothing is really synced. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(name, type) ((type)dlsym(RTLD_NEXT, #name))
typedef ssize_t (*pwrite_t)(int, const void *, size_t, off_t);
typedef int (*truncate_t)(int, off_t);
typedef int (*unlink_t)(const char *);

struct undo { int fd; ino_t file; off_t at, size; size_t length; char *old; struct undo *before; };

static long left = -1, calls = 0;
static int how = 0;
static struct undo *unsynced = NULL;

void crash_arm(long step, int ending) { left = step; how = ending; calls = 0; }
long crash_calls(void) { return calls; }

static ino_t file_of(int fd) { struct stat s; fstat(fd, &s); return s.st_ino; }

static void remember(int fd, off_t at, size_t length) {
    struct stat s;
    struct undo *u = malloc(sizeof *u);
    fstat(fd, &s);
    u->fd = dup(fd); u->file = s.st_ino; u->at = at; u->size = s.st_size; u->before = unsynced;
    u->old = malloc(length ? length : 1);
    ssize_t got = pread(fd, u->old, length, at);
    u->length = got > 0 ? got : 0;
    unsynced = u;
}

static void synced(int fd) {
    ino_t file = file_of(fd);
    struct undo **u = &unsynced;
    while (*u) {
        if ((*u)->file != file) { u = &(*u)->before; continue; }
        struct undo *gone = *u;
        *u = gone->before;
        close(gone->fd); free(gone->old); free(gone);
    }
}

static int now(void) {
    if (left < 0) return 0;
    calls++;
    return left-- == 0;
}

static void end(int fd, const void *data, size_t length, off_t at) {
    if (how == 1 && data) REAL(pwrite64, pwrite_t)(fd, data, length / 2, at);
    if (how == 2)
        for (struct undo *u = unsynced; u; u = u->before) {
            REAL(pwrite64, pwrite_t)(u->fd, u->old, u->length, u->at);
            REAL(ftruncate64, truncate_t)(u->fd, u->size);
        }
    kill(getpid(), SIGKILL);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t at) {
    if (left >= 0) {
        if (now()) end(fd, data, length, at);
        remember(fd, at, length);
    }
    return REAL(pwrite64, pwrite_t)(fd, data, length, at);
}

int ftruncate64(int fd, off_t size) {
    if (left >= 0) {
        struct stat s;
        if (now()) end(fd, NULL, 0, 0);
        fstat(fd, &s);
        remember(fd, size, s.st_size > size ? s.st_size - size : 0);
    }
    return REAL(ftruncate64, truncate_t)(fd, size);
}

int fdatasync(int fd) {
    if (now()) end(fd, NULL, 0, 0);
    if (left >= 0) synced(fd);
    return 0;
}

int fsync(int fd) {
    if (now()) end(fd, NULL, 0, 0);
    if (left >= 0) synced(fd);
    return 0;
}

int unlink(const char *path) {
    if (now()) end(-1, NULL, 0, 0);
    return REAL(unlink, unlink_t)(path);
}
