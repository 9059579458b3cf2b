/* sys: the operating-system seam.
 *
 * Owns every call whose spelling differs between Linux and macOS: mapping, atomic replace, fsync,
 * clocks, processors, huge pages, signals, terminals, dynamic libraries. It knows nothing of this
 * project: no status type, no allocation policy. Functions return 0 or an errno value; outputs are
 * untouched on failure. Anyone may call it; most callers want the friendlier doors in base/.
 */
#ifndef AA_SYS_SYS_H
#define AA_SYS_SYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- files ----------------------------------------------------------------------------------- */

typedef struct aa_sys_map { const unsigned char *data; size_t size_bytes; } aa_sys_map;

/* Maps a whole regular file read-only. An empty file maps to {NULL, 0}. A directory is EISDIR. */
int  aa_sys_map_open(aa_sys_map *out, const char *path);
void aa_sys_map_close(aa_sys_map *map);
/* Lets memory go that part of a mapping takes; touched again, it is read again. */
void aa_sys_map_drop(const void *p, size_t size_bytes);

typedef enum { AA_SYS_ABSENT, AA_SYS_FILE, AA_SYS_DIR, AA_SYS_OTHER } aa_sys_kind;

typedef struct aa_sys_info {
    aa_sys_kind kind;
    uint64_t size_bytes;
    uint64_t inode;
} aa_sys_info;

int aa_sys_stat(aa_sys_info *out, const char *path); /* follows links; ABSENT is success */
/* From the root, links followed. ENAMETOOLONG where it does not fit. */
enum { AA_SYS_PATH = 4096 };
int aa_sys_real_path(char out[AA_SYS_PATH], const char *path);
int aa_sys_make_dirs(const char *path);                          /* mkdir -p */
int aa_sys_fsync_file(int fd);                                   /* F_FULLFSYNC on macOS */
int aa_sys_fsync_dir(const char *path);
int aa_sys_rename(const char *from, const char *to);             /* atomic; replaces a file */
int aa_sys_link_replace(const char *target, const char *link);   /* made aside, then renamed */
int aa_sys_remove_tree(const char *path); /* absent is success; never follows links */
int aa_sys_truncate(const char *path, uint64_t size_bytes);      /* with fsync */
/* Calls visit(ctx, name) for each entry but "." and "..", in byte order of the names; a non-zero
 * return of visit ends the walk and is returned. */
int aa_sys_list_dir(const char *path, int (*visit)(void *ctx, const char *name), void *ctx);
/* Advisory exclusive lock until unlock or the end of the process; EWOULDBLOCK: held elsewhere. */
int aa_sys_lock(const char *path, int *out_fd);
void aa_sys_unlock(int fd);
/* Marks a file just made as in use until its last descriptor is closed; ESTALE: it was taken for
 * abandoned before that. File systems without locks succeed. */
int aa_sys_claim(int fd);
int aa_sys_remove_abandoned(const char *path);   /* unlinks; EWOULDBLOCK: somebody's claim holds */

/* ---- memory ---------------------------------------------------------------------------------- */

/* Zeroed, page-aligned memory of its own mapping, advised for huge pages when that is useful. */
int  aa_sys_pages_alloc(void **out, size_t size_bytes);
void aa_sys_pages_small(void *p, size_t size_bytes);  /* no huge pages, if it had them */
void aa_sys_pages_free(void *p, size_t size_bytes);
uint64_t aa_sys_memory_total(void); /* bytes of RAM this process may use (honours cgroup limits) */
uint64_t aa_sys_memory_available(void);
uint64_t aa_sys_peak_rss(void);          /* bytes */

/* ---- clocks ---------------------------------------------------------------------------------- */

double  aa_sys_clock_s(void);            /* monotonic seconds, origin arbitrary */
void    aa_sys_sleep(double seconds);    /* or until a signal */
int64_t aa_sys_unix_ms(void);            /* wall clock, milliseconds since 1970 */

/* ---- processor ------------------------------------------------------------------------------- */

typedef struct aa_sys_cpu {
    char brand[64];
    int  n_cores;                        /* cores this process may use (affinity, cgroup quota) */
    bool avx2_fma, f16c, avx512, avx512_bf16, avx512_vnni, amx_bf16;       /* OS support included */
    bool neon, neon_bf16;
    size_t l1d_bytes, l2_bytes, l3_bytes;                                  /* 0 if unknown */
} aa_sys_cpu;

void aa_sys_cpu_info(aa_sys_cpu *out);
/* Keeps the calling thread on the core-th core allowed to the process; -1: on any of them. Best
 * effort: nothing happens where the process has a quota of CPU time instead of cores of its own. */
void aa_sys_pin_thread(int core);

/* ---- signals and terminals ------------------------------------------------------------------- */

/* A file to be unlinked if a signal handled here ends the process, until it is spared; path stays
 * the caller's. There is room for 16, what is more is left where it is. */
void aa_sys_doom(const char *path);
void aa_sys_spare(const char *path);
/* From now on SIGINT, SIGTERM and SIGHUP, unless they are ignored, unlink those before they end the
 * process. */
void aa_sys_end_tidily(void);
/* After install, SIGINT and SIGTERM only raise the flag; a second SIGINT unlinks what is doomed and
 * ends the process at once with status 130. pending() is cheap enough for every step. */
void aa_sys_interrupt_install(void);
bool aa_sys_interrupt_pending(void);
void aa_sys_interrupt_release(void);     /* undoes install and lowers the flag */
bool aa_sys_is_terminal(int fd);
int  aa_sys_terminal_width(int fd);      /* columns, or 80 */

/* ---- other programs -------------------------------------------------------------------------- */

/* Runs `sh -c command`, gives it n bytes on standard input, and collects up to capacity bytes of
 * its standard output; standard error is ours. *out_size: bytes collected; *out_status: exit
 * status, or 128 + the signal that ended it. ETIMEDOUT after timeout_s seconds, when it and its
 * children are killed; EOVERFLOW when it says more; EINTR when an interrupt is pending (see above).
 * Input that it does not read is dropped. */
int aa_sys_filter(const char *command, const void *in, size_t n, void *out, size_t capacity,
                  double timeout_s, size_t *out_size, int *out_status);

/* ---- dynamic libraries ----------------------------------------------------------------------- */

void *aa_sys_dl_open(const char *path);  /* NULL if absent */
void *aa_sys_dl_symbol(void *lib, const char *name);

#endif
