/* autoane zo: ledgers of zeroth-order runs: what they are replayed to, whether they are whole, and
 * what several come to. */
#include "base/memory.h"
#include "cli/cli.h"
#include "train/zo_replay.h"
#include "zo/ledger.h"

typedef struct zo_values { char *base, *out; int64_t threads; } zo_values;
#define AT(field) offsetof(zo_values, field)
#define BASE_ROW(help) {"base", "data", AA_OPT_STRING, AT(base), NULL, 0, 0, 0, "MODEL", help}
#define OUT_ROW(kind, help) {"out", "data", AA_OPT_STRING, AT(out), NULL, 0, 0, 0, kind, help}

static void rebuilt_text(cli_call *call, const char *ledger, const aa_zo_rebuilt *r) {
    const zo_values *v = call->opts.values;
    char digest[AA_DIGEST_HEX];
    aa_digest_hex(r->digest, digest);
    if (call->json) {
        aa_text_add(&call->out, "{");
        cli_key_string(&call->out, "ledger", ledger);
        if (v->out) cli_key_string(&call->out, "out", v->out);
        cli_key_int(&call->out, "steps", (int64_t)r->replayed.steps);
        cli_key_int(&call->out, "records", (int64_t)r->replayed.records);
        cli_key_int(&call->out, "checks", (int64_t)r->replayed.checks);
        cli_key_int(&call->out, "moved_params", (int64_t)r->moved);
        cli_key_string(&call->out, "digest", digest);
        cli_key_real(&call->out, "replay_s", r->wall_s);
        aa_text_add(&call->out, "}\n");
        return;
    }
    aa_text_printf(&call->out,
                   "%s: %llu steps over %llu parameters replayed in %.2f s, %llu digests agree; "
                   "the weights have digest %s\n",
                   ledger, (unsigned long long)r->replayed.steps, (unsigned long long)r->moved,
                   r->wall_s, (unsigned long long)r->replayed.checks, digest);
    if (v->out)
        aa_text_printf(&call->out, "%s: %s\n", v->out,
                       r->whole ? "the model" : "the adapter, as a PEFT directory");
}

static aa_status rebuild(cli_call *call, const char *ledger, aa_err *err) {
    const zo_values *v = call->opts.values;
    aa_zo_rebuilt done;
    aa_cpu *cpu = NULL;
    AA_TRY(cli_open_cpu(&cpu, v->threads, err));
    aa_status st = aa_zo_rebuild(ledger, v->base, v->out, cpu, &done, err);
    if (!st) rebuilt_text(call, ledger, &done);
    aa_cpu_free(cpu);
    return st;
}

/* ---- replay ---------------------------------------------------------------------------------- */

static const aa_opt replay_rows[] = {
    BASE_ROW("the model that the run started from"),
    OUT_ROW("DIR", "what to write: an adapter, or a model if the method changes matrices"),
    CLI_THREADS_ROW(AT(threads)),
    {0}};

static aa_status run_replay(cli_call *call, aa_err *err) {
    const zo_values *v = call->opts.values;
    AA_TRY(cli_need(v->base, "base", "the model that the run started from", err));
    AA_TRY(cli_need(v->out, "out", "the directory to write", err));
    return rebuild(call, call->positional[0], err);
}

const cli_command cli_zo_replay = {
    .words = "zo replay",
    .group = "train",
    .arguments = "LEDGER",
    .summary = "the weights of a zeroth-order run, from its ledger and its base",
    .rows = replay_rows,
    .values_size = sizeof(zo_values),
    .min_positional = 1,
    .max_positional = 1,
    .run = run_replay,
    .notes = "LEDGER is the file `ledger` of a run directory, or the directory. The bits are those "
             "of the run, on any machine.\n",
};

/* ---- verify ---------------------------------------------------------------------------------- */

static const aa_opt verify_rows[] = {
    BASE_ROW("replay it over this model too, and compare the digests on the way"),
    CLI_THREADS_ROW(AT(threads)),
    {0}};

static void summary_text(cli_call *call, const char *ledger, const aa_ledger_summary *s) {
    const struct { const char *key; double value; } rows[] = {
        {"size_bytes", (double)s->size_bytes}, {"records", (double)s->records},
        {"steps", (double)s->steps},           {"scalars", (double)s->scalars},
        {"bases", (double)s->bases},           {"basis_bytes", (double)s->basis_bytes},
        {"rewinds", (double)s->rewinds},       {"undone", (double)s->undone},
        {"checks", (double)s->checks},         {"first_step", (double)s->first_step},
        {"last_step", (double)s->last_step},   {"last_loss", s->last_loss}};
    if (call->json) {
        aa_text_add(&call->out, "{");
        cli_key_string(&call->out, "ledger", ledger);
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
            cli_key_real(&call->out, rows[i].key, rows[i].value);
        aa_text_add(&call->out, "}\n");
        return;
    }
    aa_text_printf(&call->out,
                   "%s: whole: %llu bytes, %llu steps with %llu scalars, %llu bases of %llu bytes, "
                   "%llu digests",
                   ledger, (unsigned long long)s->size_bytes, (unsigned long long)s->steps,
                   (unsigned long long)s->scalars, (unsigned long long)s->bases,
                   (unsigned long long)s->basis_bytes, (unsigned long long)s->checks);
    if (s->rewinds)
        aa_text_printf(&call->out, ", %llu steps taken back in %llu rewinds",
                       (unsigned long long)s->undone, (unsigned long long)s->rewinds);
    aa_text_printf(&call->out, "; the last loss is %.4f\n", s->last_loss);
}

static aa_status run_verify(cli_call *call, aa_err *err) {
    const zo_values *v = call->opts.values;
    aa_ledger_summary s;
    char *path = NULL;
    AA_TRY(aa_zo_ledger_path(&path, call->positional[0], err));
    aa_status st = aa_ledger_verify(path, &s, err);
    if (!st && v->base) st = rebuild(call, path, err);
    else if (!st) summary_text(call, path, &s);
    aa_heap_free(path);
    return st;
}

const cli_command cli_zo_verify = {
    .words = "zo verify",
    .group = "train",
    .arguments = "LEDGER",
    .summary = "whether a ledger is whole",
    .rows = verify_rows,
    .values_size = sizeof(zo_values),
    .min_positional = 1,
    .max_positional = 1,
    .run = run_verify,
    .notes = "A flipped bit or a missing piece is named by record, step and place.\n",
};

/* ---- merge, compact -------------------------------------------------------------------------- */

static const aa_opt merge_rows[] = {OUT_ROW("FILE", "the ledger to write"), {0}};

static aa_status write_ledger(cli_call *call, bool compact, aa_err *err) {
    const zo_values *v = call->opts.values;
    char *in[CLI_MAX_POSITIONAL] = {NULL};
    const char *list[CLI_MAX_POSITIONAL];
    aa_ledger_summary s;
    AA_TRY(cli_need(v->out, "out", "the ledger to write", err));
    aa_status st = AA_OK;
    for (int i = 0; !st && i < call->n_positional; i++) {
        st = aa_zo_ledger_path(&in[i], call->positional[i], err);
        list[i] = in[i];
    }
    if (!st)
        st = compact ? aa_ledger_compact(list[0], v->out, err)
                     : aa_ledger_merge(list, (size_t)call->n_positional, v->out, err);
    if (!st) st = aa_ledger_verify(v->out, &s, err);
    if (!st) summary_text(call, v->out, &s);
    for (int i = 0; i < call->n_positional; i++) aa_heap_free(in[i]);
    return st;
}

static aa_status run_merge(cli_call *call, aa_err *err) { return write_ledger(call, false, err); }
static aa_status run_compact(cli_call *call, aa_err *err) { return write_ledger(call, true, err); }

const cli_command cli_zo_merge = {
    .words = "zo merge",
    .group = "train",
    .arguments = "LEDGER LEDGER ...",
    .summary = "the mean of what several runs did from one start, as one ledger",
    .rows = merge_rows,
    .values_size = sizeof(zo_values),
    .min_positional = 2,
    .max_positional = CLI_MAX_POSITIONAL,
    .run = run_merge,
    .notes = "The runs have one base, seed and settings, but each its own --zo-client: then their "
             "directions differ, and no gradient travels, only scalars. Plain steps over a basis "
             "that never changes can be added up; others are refused.\n",
};

const cli_command cli_zo_compact = {
    .words = "zo compact",
    .group = "train",
    .arguments = "LEDGER",
    .summary = "the steps of a ledger with a pool of directions, as one sum for each",
    .rows = merge_rows,
    .values_size = sizeof(zo_values),
    .min_positional = 1,
    .max_positional = 1,
    .run = run_compact,
    .notes = "For runs with --zo-pool: what is left does not grow with the steps, and gives the "
             "same weights up to rounding.\n",
};
