#include "train/journal.h"
#include <errno.h>
#include <string.h>
#include "base/memory.h"

#define LINE_RESERVE 65536 /* so that ordinary lines never touch the heap inside the loop */

aa_status aa_journal_writer_open(aa_journal_writer *w, const char *path, uint64_t at_bytes,
                                 aa_err *err) {
    *w = (aa_journal_writer){0};
    aa_sys_info info;
    int no = aa_sys_stat(&info, path);
    uint64_t have = !no && info.kind == AA_SYS_FILE ? info.size_bytes : 0;
    if (have < at_bytes)
        return aa_fail(
            err, AA_ECORRUPT,
            "'%s' has %llu bytes, the checkpoint was written at %llu; resume from an older step-N",
            path, (unsigned long long)have, (unsigned long long)at_bytes);
    if (have > at_bytes && (no = aa_sys_truncate(path, at_bytes)))
        return aa_fail_errno(err, no, "cannot cut", path);
    w->path = aa_heap_strdup(path);
    w->file = fopen(path, "ab");
    w->size_bytes = at_bytes;
    char *room = aa_heap_alloc(LINE_RESERVE, 1);
    if (room) aa_text_add_bytes(&w->line, room, LINE_RESERVE);
    aa_heap_free(room);
    aa_status st = w->file ? aa_text_status(&w->line, err)
                           : aa_fail_errno(err, errno, "cannot append to", path);
    if (!st && (!w->path || !room)) st = aa_fail_memory(err, "the journal's line", LINE_RESERVE);
    aa_text_clear(&w->line);
    if (st) aa_journal_writer_close(w);
    return st;
}

void aa_journal_writer_close(aa_journal_writer *w) {
    if (w->file) fclose(w->file);
    aa_heap_free(w->path);
    aa_text_release(&w->line);
    *w = (aa_journal_writer){0};
}

static aa_status put(aa_journal_writer *w, aa_err *err) {
    aa_text_add(&w->line, "}\n");
    AA_TRY(aa_text_status(&w->line, err));
    if (fwrite(w->line.data, 1, w->line.len, w->file) != w->line.len || fflush(w->file))
        return aa_fail_errno(err, errno, "cannot write the journal", w->path);
    w->size_bytes += w->line.len;
    return AA_OK;
}

aa_status aa_journal_sync(aa_journal_writer *w, aa_err *err) {
    int no = fflush(w->file) ? errno : aa_sys_fsync_file(fileno(w->file));
    return no ? aa_fail_errno(err, no, "cannot flush the journal", w->path) : AA_OK;
}

static void begin(aa_journal_writer *w, const char *event) {
    aa_text_clear(&w->line);
    aa_text_printf(&w->line, "{\"event\":\"%s\"", event);
}

static void real(aa_journal_writer *w, const char *key, double v) {
    aa_text_json_key(&w->line, key);
    aa_text_json_real(&w->line, v);
}

static void whole(aa_journal_writer *w, const char *key, uint64_t v) {
    aa_text_json_key(&w->line, key);
    aa_text_json_int(&w->line, (int64_t)v);
}

static void string(aa_journal_writer *w, const char *key, const char *s) {
    aa_text_json_key(&w->line, key);
    aa_text_json_string(&w->line, s, strlen(s));
}

static void open_object(aa_journal_writer *w, const char *key) {
    aa_text_json_key(&w->line, key);
    aa_text_add(&w->line, "{");
}

static void close_object(aa_journal_writer *w) { aa_text_add(&w->line, "}"); }

aa_status aa_journal_run(aa_journal_writer *w, const aa_job *job, const aa_plan *plan,
                         aa_err *err) {
    aa_sys_cpu cpu;
    aa_sys_cpu_info(&cpu);
    begin(w, "run");
    whole(w, "schema", 1);
    aa_text_json_key(&w->line, "options");
    aa_opts_write_json(job->opts, &w->line);
    open_object(w, "model");
    whole(w, "params", plan->params);
    real(w, "flop_per_token", plan->flop_per_token);
    real(w, "flop_per_update", plan->flop_per_update);
    close_object(w);
    open_object(w, "data");
    whole(w, "tokens", job->tokens.n_tokens);
    whole(w, "documents", job->tokens.n_documents);
    whole(w, "train_tokens", job->train.n_tokens);
    whole(w, "valid_tokens", job->valid.n_tokens);
    whole(w, "bytes", job->tokens.n_bytes);
    if (job->examples) {
        whole(w, "train_examples", job->train_set.n);
        whole(w, "valid_examples", job->valid_set.n);
        whole(w, "cut_examples", job->train_set.n_cut + job->valid_set.n_cut);
    }
    close_object(w);
    open_object(w, "host");
    string(w, "cpu", cpu.brand);
    string(w, "isa", plan->isa);
    string(w, "device", plan->device);
    if (plan->blas) string(w, "blas", plan->blas);
    whole(w, "threads", (uint64_t)plan->threads);
    real(w, "peak_gflops", plan->peak_gflops);
    string(w, "version", AA_VERSION);
    close_object(w);
    return put(w, err);
}

aa_status aa_journal_step(aa_journal_writer *w, const aa_train_progress *p, double mean_loss,
                          aa_err *err) {
    begin(w, "step");
    whole(w, "step", p->step);
    whole(w, "tokens", p->tokens);
    real(w, "epoch", p->epoch);
    real(w, "loss", mean_loss);
    real(w, "lr", p->lr);
    if (p->sequence_forwards) {
        whole(w, "sequence_forwards", p->sequence_forwards);
        real(w, "spread", p->spread);
    } else real(w, "grad_norm", p->grad_norm);
    open_object(w, "time");
    real(w, "wall_s", p->wall_s);
    real(w, "tokens_per_s", p->tokens_per_s);
    real(w, "share_of_peak", p->share_of_peak);
    close_object(w);
    return put(w, err);
}

aa_status aa_journal_eval(aa_journal_writer *w, const aa_train_progress *p, const aa_eval_result *r,
                          bool best, aa_err *err) {
    begin(w, "eval");
    whole(w, "step", p->step);
    whole(w, "tokens", p->tokens);
    real(w, "loss", r->loss);
    real(w, "loss_stderr", r->loss_stderr);
    real(w, "bits_per_byte", r->bits_per_byte);
    real(w, "perplexity", r->perplexity);
    whole(w, "eval_tokens", r->tokens);
    aa_text_json_key(&w->line, "best");
    aa_text_json_bool(&w->line, best);
    open_object(w, "time");
    real(w, "wall_s", p->wall_s);
    close_object(w);
    return put(w, err);
}

aa_status aa_journal_sample(aa_journal_writer *w, uint64_t step, const aa_text *text,
                            aa_err *err) {
    begin(w, "sample");
    whole(w, "step", step);
    aa_text_json_key(&w->line, "text");
    aa_text_json_string(&w->line, text->len ? text->data : "", text->len);
    return put(w, err);
}

aa_status aa_journal_end(aa_journal_writer *w, const char *reason, const aa_train_result *r,
                         aa_err *err) {
    begin(w, "end");
    string(w, "reason", reason);
    whole(w, "step", r->step);
    whole(w, "tokens", r->tokens);
    if (r->sequence_forwards) whole(w, "sequence_forwards", r->sequence_forwards);
    real(w, "epoch", r->epoch);
    real(w, "flop", r->flop);
    real(w, "loss", r->final.loss);
    real(w, "floor", r->floor_loss);
    open_object(w, "time");
    real(w, "wall_s", r->wall_s);
    real(w, "train_s", r->train_s);
    real(w, "eval_s", r->eval_s);
    real(w, "checkpoint_s", r->checkpoint_s);
    close_object(w);
    return put(w, err);
}
