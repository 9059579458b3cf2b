#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __linux__
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#endif
#ifdef __APPLE__
#include <sys/sysctl.h>
#endif
#if defined(__linux__) && defined(__aarch64__)
#include <sys/auxv.h>
#endif
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include "sys/sys.h"

/* ---- instruction sets ------------------------------------------------------------------------ */

#if defined(__x86_64__)

static uint64_t xgetbv0(void) {
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

/* Linux gives a process tile registers when it asks (Documentation/arch/x86/xstate.rst). */
static bool may_use_tiles(void) {
#ifdef __linux__
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return false;
#endif
}

/* A set counts when the processor has it and the system saves its registers (Intel SDM vol.
 * 1, 13.3). */
static void find_isa(aa_sys_cpu *c) {
    uint32_t a, b, cx, d;
    if (!__get_cpuid(1, &a, &b, &cx, &d) || !(cx & bit_OSXSAVE)) return;
    uint64_t saved = xgetbv0();
    bool ymm = (saved & 0x6) == 0x6, zmm = (saved & 0xE6) == 0xE6,
         tiles = (saved & 0x60000) == 0x60000;
    bool fma = cx & bit_FMA;
    c->f16c = ymm && (cx & bit_F16C);
    uint32_t b7 = 0, d7 = 0, a71 = 0;
    if (!__get_cpuid_count(7, 0, &a, &b7, &cx, &d7)) return;
    c->avx2_fma = ymm && fma && (b7 & bit_AVX2);
    c->avx512 = zmm && c->avx2_fma && (b7 & bit_AVX512F) && (b7 & bit_AVX512BW) &&
                (b7 & bit_AVX512DQ) && (b7 & bit_AVX512VL);
    c->avx512_vnni = c->avx512 && (cx >> 11 & 1);
    c->amx_bf16 = tiles && (d7 >> 22 & 1) && (d7 >> 24 & 1) && may_use_tiles();
    if (__get_cpuid_count(7, 1, &a71, &b, &cx, &d)) c->avx512_bf16 = c->avx512 && (a71 >> 5 & 1);
}

static void find_brand(aa_sys_cpu *c) {
    uint32_t r[12] = {0};
    for (unsigned i = 0; i < 3; i++)
        if (!__get_cpuid(0x80000002 + i, &r[4 * i], &r[4 * i + 1], &r[4 * i + 2], &r[4 * i + 3]))
            return;
    char s[49] = {0};
    memcpy(s, r, 48);
    const char *p = s;
    while (*p == ' ') p++;
    snprintf(c->brand, sizeof c->brand, "%s", p);
}

#else

static void find_isa(aa_sys_cpu *c) {
#if defined(__aarch64__)
    c->neon = true;
#if defined(__linux__)
    c->neon_bf16 = getauxval(AT_HWCAP2) >> 14 & 1; /* HWCAP2_BF16 */
#elif defined(__APPLE__)
    int bf16 = 0;
    size_t n = sizeof bf16;
    if (sysctlbyname("hw.optional.arm.FEAT_BF16", &bf16, &n, NULL, 0) == 0) c->neon_bf16 = bf16;
#endif
#else
    (void)c;
#endif
}

static void find_brand(aa_sys_cpu *c) {
#ifdef __APPLE__
    size_t n = sizeof c->brand;
    sysctlbyname("machdep.cpu.brand_string", c->brand, &n, NULL, 0);
#else
    snprintf(c->brand, sizeof c->brand, "unknown processor");
#endif
}

#endif

/* ---- cores and caches ------------------------------------------------------------------------ */

#ifdef __APPLE__

static size_t sysctl_size(const char *name) {
    uint64_t v = 0;
    size_t n = sizeof v;
    return sysctlbyname(name, &v, &n, NULL, 0) ? 0 : (size_t)v;
}

static void find_cores(aa_sys_cpu *c) {
    c->n_cores = (int)sysctl_size("hw.perflevel0.logicalcpu"); /* performance cores */
    if (c->n_cores < 1) c->n_cores = (int)sysctl_size("hw.logicalcpu");
    c->l1d_bytes = sysctl_size("hw.perflevel0.l1dcachesize");
    c->l2_bytes = sysctl_size("hw.perflevel0.l2cachesize");
}

void aa_sys_pin_thread(int core) { (void)core; } /* macOS has no affinity for threads */

#else

static cpu_set_t allowed; /* of the process, before any of its threads was pinned */
static int quota;         /* cores granted by a cgroup, 0: all that are allowed */
static pthread_once_t allowed_once = PTHREAD_ONCE_INIT;
/* Whole cores granted by a cgroup v2 quota, rounded up; 0: no quota. */
static int quota_cores(void) {
    char line[64] = "";
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (!f) return 0;
    char *got = fgets(line, sizeof line, f);
    fclose(f);
    char *rest;
    if (!got || strncmp(line, "max", 3) == 0) return 0;
    double granted = strtod(line, &rest), period = strtod(rest, NULL);
    return period > 0 && granted > 0 ? (int)((granted + period - 1) / period) : 0;
}

static void read_allowed(void) {
    if (sched_getaffinity(0, sizeof allowed, &allowed)) CPU_ZERO(&allowed);
    quota = quota_cores();
}

/* Size of the cache of a level that holds data, from sysfs:
 * glibc's sysconf does not know every machine. */
static size_t cache_bytes(int level) {
    for (int i = 0; i < 8; i++) {
        char path[96], text[32];
        int got = 0;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/level", i);
        FILE *f = fopen(path, "r");
        if (!f) return 0;
        got = fgets(text, sizeof text, f) ? (int)strtol(text, NULL, 10) : 0;
        fclose(f);
        if (got != level) continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/type", i);
        f = fopen(path, "r");
        bool data = f && fgets(text, sizeof text, f) && text[0] != 'I';
        if (f) fclose(f);
        if (!data) continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        f = fopen(path, "r");
        size_t kib = f && fgets(text, sizeof text, f) ? strtoul(text, NULL, 10) : 0;
        if (f) fclose(f);
        return kib * 1024;
    }
    return 0;
}

static void find_cores(aa_sys_cpu *c) {
    pthread_once(&allowed_once, read_allowed);
    c->n_cores = CPU_COUNT(&allowed) ? CPU_COUNT(&allowed) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (quota && quota < c->n_cores) c->n_cores = quota;
    c->l1d_bytes = cache_bytes(1);
    c->l2_bytes = cache_bytes(2);
    c->l3_bytes = cache_bytes(3);
}

void aa_sys_pin_thread(int core) {
    pthread_once(&allowed_once, read_allowed);
    cpu_set_t one;
    if (quota && quota < CPU_COUNT(&allowed)) return;
    if (core < 0) (void)pthread_setaffinity_np(pthread_self(), sizeof allowed, &allowed);
    for (int cpu = 0; core >= 0 && cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed) || core-- > 0) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        (void)pthread_setaffinity_np(pthread_self(), sizeof one, &one);
        return;
    }
}

#endif

void aa_sys_cpu_info(aa_sys_cpu *out) {
    *out = (aa_sys_cpu){0};
    find_brand(out);
    find_isa(out);
    find_cores(out);
    if (out->n_cores < 1) out->n_cores = 1;
}
