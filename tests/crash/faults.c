/* Loaded into the service with LD_PRELOAD: makes syncs fail or slow, counts them, remembers what a
 * power cut would leave, and kills in the middle of a write.
 *
 * FAULTS_LOG    every fsync and fdatasync of a named file adds one line: "ok PATH" or "failed PATH"
 * FAULTS_ARM    while this file exists, syncs of the paths that contain its first line fail with EIO
 *               (of the one path that equals it, where it begins with "=")
 * FAULTS_SLOW   while this file exists ("MILLISECONDS NAME"), syncs of the paths that contain NAME
 *               take so much longer
 * FAULTS_IMAGE  a folder: after each sync of a file its content is copied to IMAGE/IDENTITY, and
 *               after each sync of a folder its names are listed in IMAGE/names ("IDENTITY NAME"
 *               lines). So it holds the least that a disk may keep: nothing that was not synced, and
 *               no file whose name was not.
 * FAULTS_DATA   the folder whose image it is; what is in it when the process begins is on the disk
 * FAULTS_TEAR   while this file exists ("OFFSET BYTES PATH"), a pwrite to that path at that offset
 *               writes only so many bytes, and the process is killed
 *
 * Like a real disk, a failed sync is reported once per call and nothing is synced.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void note(const char *outcome, const char *path) {
    const char *log = getenv("FAULTS_LOG");
    if (log == NULL) return;
    int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (out < 0) return;
    char line[PATH_MAX + 16];
    int length = snprintf(line, sizeof line, "%s %s\n", outcome, path);
    if (write(out, line, (size_t)length) < 0) abort();
    close(out);
}

static int is_armed(const char *path) {
    const char *arm = getenv("FAULTS_ARM");
    if (arm == NULL) return 0;
    FILE *file = fopen(arm, "re");
    if (file == NULL) return 0;
    char wanted[PATH_MAX] = "";
    if (fgets(wanted, sizeof wanted, file) == NULL) wanted[0] = '\0';
    fclose(file);
    wanted[strcspn(wanted, "\n")] = '\0';
    if (wanted[0] == '=') return strcmp(path, wanted + 1) == 0;
    return wanted[0] != '\0' && strstr(path, wanted) != NULL;
}

static void wait_where_slow(const char *path) {
    const char *slow = getenv("FAULTS_SLOW");
    FILE *order = slow == NULL ? NULL : fopen(slow, "re");
    if (order == NULL) return;
    char wanted[PATH_MAX];
    long milliseconds;
    int is_whole = fscanf(order, "%ld %4095s", &milliseconds, wanted) == 2;
    fclose(order);
    if (!is_whole || strstr(path, wanted) == NULL) return;
    struct timespec longer = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&longer, NULL);
}

/* A name for a file that no later file can have, though inodes are used again: with its birth. */
static int identify(int folder, const char *name, int flags, char *identity, size_t size) {
    struct statx status;
    if (statx(folder, name, flags, STATX_INO | STATX_BTIME, &status) != 0) return -1;
    snprintf(identity, size, "%llu-%lld.%u", (unsigned long long)status.stx_ino,
             (long long)status.stx_btime.tv_sec, status.stx_btime.tv_nsec);
    return 0;
}

/* Both are written aside and renamed: the process may be killed in the middle. */
static void copy_file(int source, const char *image) {
    char identity[128], path[PATH_MAX], draft[PATH_MAX], buffer[65536];
    if (identify(source, "", AT_EMPTY_PATH, identity, sizeof identity) != 0) abort();
    snprintf(path, sizeof path, "%s/%s", image, identity);
    snprintf(draft, sizeof draft, "%s/draft", image);
    int target = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (target < 0) abort();
    off_t at = 0;
    ssize_t count;
    while ((count = pread(source, buffer, sizeof buffer, at)) > 0) {
        if (pwrite(target, buffer, (size_t)count, at) != count) abort();
        at += count;
    }
    close(target);
    if (rename(draft, path) != 0) abort();
}

static void list_folder(int folder, const char *image) {
    char identity[128], path[PATH_MAX], draft[PATH_MAX];
    snprintf(path, sizeof path, "%s/names", image);
    snprintf(draft, sizeof draft, "%s/draft", image);
    FILE *names = fopen(draft, "we");
    DIR *entries = fdopendir(openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (names == NULL || entries == NULL) abort();
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;)
        if (entry->d_type == DT_REG &&
            identify(folder, entry->d_name, 0, identity, sizeof identity) == 0)
            fprintf(names, "%s %s\n", identity, entry->d_name);
    closedir(entries);
    fclose(names);
    if (rename(draft, path) != 0) abort();
}

__attribute__((constructor)) static void begin(void) {
    const char *image = getenv("FAULTS_IMAGE"), *data = getenv("FAULTS_DATA");
    if (image == NULL || data == NULL) return;
    int folder = open(data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) return;
    DIR *entries = fdopendir(openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (entries == NULL) abort();
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        if (entry->d_type != DT_REG) continue;
        int file = openat(folder, entry->d_name, O_RDONLY | O_CLOEXEC);
        if (file < 0) abort();
        copy_file(file, image);
        close(file);
    }
    closedir(entries);
    list_folder(folder, image);
    close(folder);
}

/* What a descriptor stands for: where the kernel lists it, and the path it was opened by. */
static int name_of(int descriptor, char *link, size_t size, char *path) {
    snprintf(link, size, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return -1;
    path[length] = '\0';
    return 0;
}

static int sync_with(int descriptor, const char *name) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    char link[64], path[PATH_MAX];
    if (name_of(descriptor, link, sizeof link, path) != 0) return real(descriptor);
    if (is_armed(path)) {
        note("failed", path);
        errno = EIO;
        return -1;
    }
    wait_where_slow(path);
    int result = real(descriptor);
    note("ok", path);
    const char *image = getenv("FAULTS_IMAGE");
    struct stat status;
    if (result == 0 && image != NULL && fstat(descriptor, &status) == 0) {
        pthread_mutex_lock(&lock);
        if (S_ISDIR(status.st_mode)) {
            list_folder(descriptor, image);
        } else {
            /* Opened again only where it must be: closing any descriptor of a file drops this
             * process's POSIX locks on it, and SQLite and DuckDB hold such locks. */
            int is_readable = (fcntl(descriptor, F_GETFL) & O_ACCMODE) != O_WRONLY;
            int source = is_readable ? descriptor : open(link, O_RDONLY | O_CLOEXEC);
            if (source < 0) abort();
            copy_file(source, image);
            if (!is_readable) close(source);
        }
        pthread_mutex_unlock(&lock);
    }
    return result;
}

int fsync(int descriptor) { return sync_with(descriptor, "fsync"); }

int fdatasync(int descriptor) { return sync_with(descriptor, "fdatasync"); }

typedef ssize_t (*positioned_write)(int, const void *, size_t, off_t);

static ssize_t write_with(int descriptor, const void *from, size_t count, off_t at,
                          const char *name) {
    positioned_write real = (positioned_write)dlsym(RTLD_NEXT, name);
    const char *tear = getenv("FAULTS_TEAR");
    FILE *order = tear == NULL ? NULL : fopen(tear, "re");
    if (order == NULL) return real(descriptor, from, count, at);
    char link[64], path[PATH_MAX], wanted[PATH_MAX];
    long long offset;
    size_t bytes;
    int is_whole = fscanf(order, "%lld %zu %4095s", &offset, &bytes, wanted) == 3;
    fclose(order);
    if (is_whole && at == offset && bytes <= count &&
        name_of(descriptor, link, sizeof link, path) == 0 && strcmp(path, wanted) == 0) {
        if (real(descriptor, from, bytes, at) != (ssize_t)bytes) abort();
        note("torn", path);
        kill(getpid(), SIGKILL);
    }
    return real(descriptor, from, count, at);
}

ssize_t pwrite(int descriptor, const void *from, size_t count, off_t at) {
    return write_with(descriptor, from, count, at, "pwrite");
}

ssize_t pwrite64(int descriptor, const void *from, size_t count, off64_t at) {
    return write_with(descriptor, from, count, at, "pwrite64");
}
