/* autoane ane: programs of the Neural Engine, looked at. */
#include <string.h>
#include "ane/check.h"
#include "ane/cost.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli/cli.h"

typedef struct ane_values { char *chip; int profile; } ane_values;
#define AT(field) offsetof(ane_values, field)
#define CHIP_ROW                                                                                   \
    {"chip", "device", AA_OPT_STRING, AT(chip), "m1", 0, 0, 0, "CHIP",                             \
     "m1 to m5, with pro behind it or without"}
#define PROFILE_ROW                                                                                \
    {"profile", "device", AA_OPT_CHOICE, AT(profile), "fast", 0, 0, 0, AA_ANE_PROFILES,            \
     "strict: what only some people met is an error too; legacy: systems of the first chips"}

/* ---- a program and its weight files ---------------------------------------------------------- */

typedef struct ane_file { char *path; aa_sys_map map; } ane_file;
typedef struct ane_program {
    aa_mil_program mil;
    const aa_ane_chip *chip;
    char *dir;                           /* of the program: "@model_path" */
    ane_file *files; size_t n_files;
} ane_program;

static void close_program(ane_program *p) {
    for (size_t i = 0; i < p->n_files; i++) {
        aa_heap_free(p->files[i].path);
        aa_sys_map_close(&p->files[i].map);
    }
    aa_heap_free(p->files);
    aa_heap_free(p->dir);
    aa_mil_release(&p->mil);
}

static aa_status open_program(cli_call *call, ane_program *p, aa_err *err) {
    const ane_values *v = call->opts.values;
    const char *path = call->positional[0], *slash = strrchr(path, '/');
    aa_sys_map map;
    *p = (ane_program){0};
    AA_TRY(aa_ane_chip_find(&p->chip, v->chip, err));
    AA_TRY(aa_map_open(&map, path, err));
    aa_status st = aa_mil_parse(&p->mil, (const char *)map.data, map.size_bytes, path, err);
    aa_sys_map_close(&map);
    if (st) return st;
    p->dir = slash ? aa_heap_printf("%.*s", (int)(slash - path), path) : aa_heap_strdup(".");
    if (p->dir) return AA_OK;
    close_program(p);
    return aa_fail_memory(err, "a path", strlen(path));
}

/* Only below the program's own directory: a path comes from the text. */
static const void *find_weights(void *ctx, const char *path, uint64_t *size) {
    static const char root[] = "@model_path/";
    ane_program *p = ctx;
    aa_err err = {0};
    if (strncmp(path, root, sizeof root - 1) || strstr(path, "..")) return NULL;
    for (size_t i = 0; i < p->n_files; i++)
        if (!strcmp(p->files[i].path, path)) {
            *size = p->files[i].map.size_bytes;
            return p->files[i].map.data;
        }
    ane_file *files = aa_heap_realloc(p->files, p->n_files + 1, sizeof *files);
    if (!files) return NULL;
    p->files = files;
    ane_file *f = &files[p->n_files];
    char *full = aa_path_join(p->dir, path + sizeof root - 1);
    *f = (ane_file){.path = aa_heap_strdup(path)};
    if (!full || !f->path || aa_map_open(&f->map, full, &err)) {
        aa_heap_free(full);
        aa_heap_free(f->path);
        return NULL;
    }
    aa_heap_free(full);
    p->n_files++;
    *size = f->map.size_bytes;
    return f->map.data;
}

/* ---- lint ------------------------------------------------------------------------------------ */

static const aa_opt lint_rows[] = {CHIP_ROW, PROFILE_ROW, {0}};

static const char *severity(const aa_ane_finding *f) {
    switch (f->constraint->kind) {
    case AA_ANE_NUMERIC: return "numeric";
    case AA_ANE_SLOW: return "slow";
    default: return f->error ? "error" : "warning";
    }
}

static void findings_json(aa_text *out, const aa_ane_findings *all) {
    aa_text_json_key(out, "findings");
    aa_text_add(out, "[");
    for (size_t i = 0; i < all->n; i++) {
        const aa_ane_finding *f = &all->data[i];
        aa_text_add(out, i ? ",{" : "{");
        cli_key_int(out, "constraint", f->constraint->number);
        cli_key_string(out, "cause", f->constraint->cause);
        cli_key_int(out, "line", f->line);
        cli_key_string(out, "severity", severity(f));
        cli_key_string(out, "where", f->where);
        cli_key_string(out, "sentence", f->constraint->sentence);
        cli_key_string(out, "detail", f->detail);
        aa_text_add(out, "}");
    }
    aa_text_add(out, "]}\n");
}

static void findings_text(cli_call *call, const aa_ane_findings *all) {
    for (size_t i = 0; i < all->n; i++) {
        const aa_ane_finding *f = &all->data[i];
        aa_text_printf(&call->out, "%s:%d: %s C%d: %s: %s (%s)\n", call->positional[0], f->line,
                       severity(f), f->constraint->number, f->where, f->constraint->sentence,
                       f->detail);
    }
    aa_text_printf(&call->out, "%s: %zu findings, %zu of them errors\n", call->positional[0],
                   all->n, all->n_errors);
}

static aa_status run_lint(cli_call *call, aa_err *err) {
    const ane_values *v = call->opts.values;
    aa_ane_findings all = {0};
    ane_program p;
    AA_TRY(open_program(call, &p, err));
    const aa_ane_files files = {&p, find_weights};
    aa_status st = aa_ane_check(&all, &p.mil, p.chip, (aa_ane_profile)v->profile, &files, err);
    if (!st && call->json) {
        aa_text_add(&call->out, "{");
        cli_key_string(&call->out, "program", call->positional[0]);
        cli_key_string(&call->out, "chip", p.chip->name);
        cli_key_int(&call->out, "errors", (int64_t)all.n_errors);
        findings_json(&call->out, &all);
    } else if (!st) {
        findings_text(call, &all);
    }
    if (!st && all.n_errors) {
        cli_flush(call);
        st = aa_fail(err, AA_EFORMAT, "'%s': %zu errors on %s", call->positional[0], all.n_errors,
                     p.chip->name);
    }
    aa_ane_findings_release(&all);
    close_program(&p);
    return st;
}

const cli_command cli_ane_lint = {
    .words = "ane lint",
    .group = "neural engine",
    .arguments = "FILE.mil",
    .summary = "what is known to go wrong with a MIL program",
    .rows = lint_rows,
    .values_size = sizeof(ane_values),
    .min_positional = 1,
    .max_positional = 1,
    .run = run_lint,
    .notes = "Weight files are looked for beside the program, as its paths say. Each finding names "
             "a published constraint and its cause: U1 rows of ports are padded to 64 bytes, U2 "
             "slots are symbol indices, U3 malformed weight files, U4 caches by content. Status 1 "
             "if there is an error.\n",
};

/* ---- explain --------------------------------------------------------------------------------- */

static const aa_opt explain_rows[] = {CHIP_ROW, {0}};

static void explain_json(aa_text *out, const aa_mil_func *f, const aa_ane_work *w,
                         const aa_ane_cost *c, uint64_t peak) {
    aa_text_add(out, "{");
    cli_key_string(out, "function", f->name);
    cli_key_int(out, "operations", w->products + w->others);
    cli_key_int(out, "products", w->products);
    cli_key_real(out, "flop", w->flop + w->int8_flop);
    cli_key_real(out, "constant_bytes", w->constant_bytes);
    cli_key_real(out, "port_bytes", w->port_bytes);
    cli_key_int(out, "live_bytes", (int64_t)peak);
    cli_key_real(out, "simulated_ms", (c->dispatch_s + c->device_s) * 1e3);
    cli_key_real(out, "simulated_mj", c->joule * 1e3);
    aa_text_add(out, "}");
}

static void explain_op(aa_text *out, const aa_mil_func *f, const aa_mil_op *op, const int *last,
                       int at) {
    const aa_mil_var *v = &f->vars[op->results[0]];
    aa_text shape = {0};
    aa_mil_type_text(&v->type, false, &shape);
    aa_text_printf(out, "  %4d  %-22s %-20s %s", op->line, op->row->kind, v->name,
                   shape.data ? shape.data : "");
    if (last[op->results[0]] == at) aa_text_add(out, "  (not used)");
    aa_text_add(out, "\n");
    aa_text_release(&shape);
}

static aa_status explain(cli_call *call, const ane_program *p, const aa_mil_func *f, aa_err *err) {
    int *last = aa_heap_alloc((size_t)f->n_vars, sizeof *last);
    aa_text *out = &call->out;
    aa_ane_work w;
    if (!last) return aa_fail_memory(err, "liveness", (size_t)f->n_vars * sizeof *last);
    const uint64_t peak = aa_mil_liveness(f, last);
    aa_ane_work_of(&w, f, p->chip);
    const aa_ane_cost c = aa_ane_cost_of(&w, 1, w.products == 1 && w.others == 0, p->chip);
    if (call->json) {
        explain_json(out, f, &w, &c, peak);
    } else {
        aa_text_printf(out, "%s<%s>: %d inputs, %d outputs, %d operations\n", f->name, f->opset,
                       f->n_inputs, f->n_outputs, w.products + w.others);
        for (int i = 0; i < f->n_ops; i++)
            if (f->ops[i].row->rule != AA_MIL_RULE_CONST) explain_op(out, f, &f->ops[i], last, i);
        aa_text_printf(out,
                       "  %.4g GFLOP in %d products; %.4g MB of constants, %.4g MB through ports, "
                       "%.4g MB live at once\n"
                       "  simulated on %s: %.3f ms (%.3f to start, %.3f bound by %s), %.3g mJ\n",
                       (w.flop + w.int8_flop) / 1e9, w.products, w.constant_bytes / 1e6,
                       w.port_bytes / 1e6, (double)peak / 1e6, p->chip->name,
                       (c.dispatch_s + c.device_s) * 1e3, c.dispatch_s * 1e3, c.device_s * 1e3,
                       c.memory_bound ? "memory" : "arithmetic", c.joule * 1e3);
    }
    aa_heap_free(last);
    return AA_OK;
}

static aa_status run_explain(cli_call *call, aa_err *err) {
    ane_program p;
    aa_status st = AA_OK;
    AA_TRY(open_program(call, &p, err));
    if (call->json) {
        aa_text_add(&call->out, "{");
        cli_key_string(&call->out, "chip", p.chip->name);
        aa_text_json_key(&call->out, "functions");
        aa_text_add(&call->out, "[");
    }
    for (int i = 0; !st && i < p.mil.n_funcs; i++) {
        if (call->json && i) aa_text_add(&call->out, ",");
        st = explain(call, &p, p.mil.funcs[i], err);
    }
    if (call->json) aa_text_add(&call->out, "]}\n");
    close_program(&p);
    return st;
}

const cli_command cli_ane_explain = {
    .words = "ane explain",
    .group = "neural engine",
    .arguments = "FILE.mil",
    .summary = "operations, shapes, bytes and the simulated cost of a MIL program",
    .rows = explain_rows,
    .values_size = sizeof(ane_values),
    .min_positional = 1,
    .max_positional = 1,
    .run = run_explain,
    .notes = "Times and energies come from published constants of each chip; nothing was measured "
             "here, and single odd shapes can be off by 30 %.\n",
};
