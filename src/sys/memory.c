#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#ifdef __APPLE__
#include <mach/mach.h>
#include <sys/sysctl.h>
#endif
#include "sys/sys.h"

#define HUGE_PAGE ((size_t)2 << 20)

int aa_sys_pages_alloc(void **out, size_t size_bytes) {
    if (!size_bytes) return EINVAL;
    void *p = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (p == MAP_FAILED) return errno;
#ifdef MADV_HUGEPAGE
    /* Small blocks would round up to a whole huge page of memory that is never used. */
    if (size_bytes >= 4 * HUGE_PAGE) (void)madvise(p, size_bytes, MADV_HUGEPAGE);
#endif
    *out = p;
    return 0;
}

void aa_sys_pages_small(void *p, size_t size_bytes) {
#ifdef MADV_NOHUGEPAGE
    (void)madvise(p, size_bytes, MADV_NOHUGEPAGE);
#else
    (void)p, (void)size_bytes;
#endif
}

void aa_sys_pages_free(void *p, size_t size_bytes) {
    if (p) munmap(p, size_bytes);
}

#ifdef __APPLE__

uint64_t aa_sys_memory_total(void) {
    uint64_t bytes = 0;
    size_t n = sizeof bytes;
    return sysctlbyname("hw.memsize", &bytes, &n, NULL, 0) ? 0 : bytes;
}

uint64_t aa_sys_memory_available(void) {
    vm_statistics64_data_t vm;
    mach_msg_type_number_t n = HOST_VM_INFO64_COUNT;
    if (host_statistics64(mach_host_self(), HOST_VM_INFO64, (host_info64_t)&vm, &n) != KERN_SUCCESS)
        return aa_sys_memory_total() / 2;
    return ((uint64_t)vm.free_count + vm.inactive_count + vm.purgeable_count) *
           (uint64_t)sysconf(_SC_PAGESIZE);
}

#else

/* First number after `key` in a small file, or 0. */
static uint64_t number_in(const char *path, const char *key) {
    char line[256];
    uint64_t value = 0;
    FILE *f = fopen(path, "r");
    if (!f) return 0;
    while (fgets(line, sizeof line, f)) {
        if (strncmp(line, key, strlen(key))) continue;
        value = strtoull(line + strlen(key), NULL, 10);
        break;
    }
    fclose(f);
    return value;
}

static uint64_t cgroup_limit(void) {
    uint64_t v2 = number_in("/sys/fs/cgroup/memory.max", ""),
             v1 = number_in("/sys/fs/cgroup/memory/memory.limit_in_bytes", "");
    return v2 ? v2 : v1; /* "max" reads as 0: none */
}

static uint64_t cgroup_used(void) {
    uint64_t v2 = number_in("/sys/fs/cgroup/memory.current", "");
    uint64_t used = v2 ? v2 : number_in("/sys/fs/cgroup/memory/memory.usage_in_bytes", "");
    uint64_t cache =
        number_in(v2 ? "/sys/fs/cgroup/memory.stat" : "/sys/fs/cgroup/memory/memory.stat",
                  v2 ? "inactive_file " : "total_inactive_file ");
    return used > cache ? used - cache : 0;
}

uint64_t aa_sys_memory_total(void) {
    uint64_t total = number_in("/proc/meminfo", "MemTotal:") * 1024, limit = cgroup_limit();
    return limit && limit < total ? limit : total;
}

uint64_t aa_sys_memory_available(void) {
    uint64_t available = number_in("/proc/meminfo", "MemAvailable:") * 1024, limit = cgroup_limit();
    if (limit && limit < aa_sys_memory_total() + 1) {
        uint64_t used = cgroup_used(), left = limit > used ? limit - used : 0;
        if (left < available) available = left;
    }
    struct rlimit r;
    if (getrlimit(RLIMIT_AS, &r) == 0 && r.rlim_cur != RLIM_INFINITY && r.rlim_cur < available)
        available = r.rlim_cur;
    return available;
}

#endif

uint64_t aa_sys_peak_rss(void) {
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u)) return 0;
#ifdef __APPLE__
    return (uint64_t)u.ru_maxrss;
#else
    return (uint64_t)u.ru_maxrss * 1024;
#endif
}
