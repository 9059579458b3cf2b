/* data/tokenizer_json: writing tokenizer.json as the `tokenizers` library reads it.
 *
 * One tokenizer has one text: ids ascending, merges in order, every added token also in the
 * vocabulary (so that the library cannot give it another id). The tokenizer's digest is that of
 * this text.
 */
#include <string.h>
#include "data/tokenizer_int.h"

static void key_of(const aa_tokenizer *t, int32_t id, aa_text *out) {
    aa_text_clear(out);
    if (t->piece[id]) aa__stand_in_text(out, t->piece[id], t->piece_len[id]);
    else if (t->added_at[id] >= 0)
        aa_text_add_bytes(out, t->added[t->added_at[id]].text, t->added[t->added_at[id]].len);
}

static void write_string(const aa_tokenizer *t, int32_t id, aa_text *key, aa_text *out) {
    key_of(t, id, key);
    aa_text_json_string(out, key->data ? key->data : "", key->len);
}

static void write_added(const aa_tokenizer *t, aa_text *out) {
    aa_text_add(out, "\"added_tokens\":[");
    for (size_t i = 0; i < t->n_added; i++) {
        const aa_added_token *a = &t->added[i];
        aa_text_printf(out, "%s\n{\"id\":%d,\"content\":", i ? "," : "", a->id);
        aa_text_json_string(out, a->text, a->len);
        aa_text_printf(
            out,
            ",\"single_word\":%s,\"lstrip\":%s,\"rstrip\":%s,\"normalized\":%s,\"special\":%s}",
            a->single_word ? "true" : "false", a->lstrip ? "true" : "false",
            a->rstrip ? "true" : "false", a->normalized ? "true" : "false",
            a->special ? "true" : "false");
    }
    aa_text_add(out, "],\n");
}

static void write_byte_level(const aa_tokenizer *t, bool use_regex, aa_text *out) {
    aa_text_printf(
        out,
        "{\"type\":\"ByteLevel\",\"add_prefix_space\":%s,\"trim_offsets\":true,\"use_regex\":%s}",
        t->add_prefix_space ? "true" : "false", use_regex ? "true" : "false");
}

static void write_pre_tokenizer(const aa_tokenizer *t, aa_text *out) {
    const char *regex = t->split == AA_SPLIT_LLAMA3  ? aa__regex_llama3
                        : t->split == AA_SPLIT_QWEN2 ? aa__regex_qwen2
                                                     : t->regex;
    aa_text_add(out, "\"pre_tokenizer\":");
    if (t->split == AA_SPLIT_GPT2 || t->split == AA_SPLIT_NONE) {
        write_byte_level(t, t->split == AA_SPLIT_GPT2, out);
    } else if (t->split == AA_SPLIT_SMOLLM) {
        aa_text_add(out, "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\","
                         "\"individual_digits\":true},");
        write_byte_level(t, true, out);
        aa_text_add(out, "]}");
    } else {
        aa_text_add(out, "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
                         "\"pattern\":{\"Regex\":");
        aa_text_json_string(out, regex, strlen(regex));
        aa_text_add(out, "},\"behavior\":\"Isolated\",\"invert\":false},");
        write_byte_level(t, false, out);
        aa_text_add(out, "]}");
    }
    aa_text_add(out, ",\n");
}

static void write_post_processor(const aa_tokenizer *t, aa_text *key, aa_text *out) {
    if (!t->add_bos) {
        aa_text_add(out, "\"post_processor\":null,\n");
        return;
    }
    aa_text bos = {0};
    write_string(t, t->bos, key, &bos);
    const char *b = bos.data ? bos.data : "\"\"";
    aa_text_printf(
        out,
        "\"post_processor\":{\"type\":\"TemplateProcessing\","
        "\"single\":[{\"SpecialToken\":{\"id\":%s,\"type_id\":0}},{\"Sequence\":{\"id\":\"A\","
        "\"type_id\":0}}],"
        "\"pair\":[{\"SpecialToken\":{\"id\":%s,\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_"
        "id\":0}},"
        "{\"SpecialToken\":{\"id\":%s,\"type_id\":1}},{\"Sequence\":{\"id\":\"B\",\"type_id\":1}}],"
        "\"special_tokens\":{%s:{\"id\":%s,\"ids\":[%d],\"tokens\":[%s]}}},\n",
        b, b, b, b, b, t->bos, b);
    if (bos.failed) out->failed = true;
    aa_text_release(&bos);
}

static void write_model(const aa_tokenizer *t, aa_text *key, aa_text *out) {
    aa_text_add(out, "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":");
    if (t->unk >= 0) write_string(t, t->unk, key, out);
    else aa_text_add(out, "null");
    aa_text_printf(
        out,
        ",\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":false,"
        "\"byte_fallback\":false,\"ignore_merges\":%s,\n\"vocab\":{",
        t->ignore_merges ? "true" : "false");
    bool comma = false;
    for (size_t id = 0; id < t->n_vocab; id++) {
        if (!t->piece[id] && t->added_at[id] < 0) continue;
        aa_text_add(out, comma ? ",\n" : "\n");
        comma = true;
        write_string(t, (int32_t)id, key, out);
        aa_text_printf(out, ":%zu", id);
    }
    aa_text_add(out, "},\n\"merges\":[");
    aa_text both = {0};
    for (size_t i = 0; i < t->n_merges; i++) {
        key_of(t, t->merges[i][0], &both);
        aa_text_add(&both, " ");
        key_of(t, t->merges[i][1], key);
        aa_text_add_bytes(&both, key->data, key->len);
        aa_text_add(out, i ? ",\n" : "\n");
        aa_text_json_string(out, both.data ? both.data : "", both.len);
    }
    if (both.failed) out->failed = true;
    aa_text_release(&both);
    aa_text_add(out, "]}}\n");
}

aa_status aa_tokenizer_write_json(const aa_tokenizer *t, aa_text *out, aa_err *err) {
    aa_text key = {0};
    aa_text_add(out, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\n");
    write_added(t, out);
    aa_text_add(out, t->nfc ? "\"normalizer\":{\"type\":\"NFC\"},\n" : "\"normalizer\":null,\n");
    write_pre_tokenizer(t, out);
    write_post_processor(t, &key, out);
    aa_text_add(out, "\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_"
                     "offsets\":true,\"use_regex\":true},\n");
    write_model(t, &key, out);
    if (key.failed) out->failed = true;
    aa_text_release(&key);
    return aa_text_status(out, err);
}

/* An absent role is written as null, which a reader takes as "none" and does not guess. */
static void write_role(const aa_tokenizer *t, const char *role, int32_t id, aa_text *key,
                       aa_text *out) {
    aa_text_json_key(out, role);
    if (id < 0) aa_text_add(out, "null");
    else write_string(t, id, key, out);
}

aa_status aa_tokenizer_write_config_json(const aa_tokenizer *t, size_t max_length, aa_text *out,
                                         aa_err *err) {
    aa_text key = {0};
    aa_text_add(out, "{\"tokenizer_class\":\"PreTrainedTokenizerFast\"");
    aa_text_printf(out, ",\"model_max_length\":%zu,\"clean_up_tokenization_spaces\":false",
                   max_length);
    write_role(t, "bos_token", t->bos, &key, out);
    write_role(t, "eos_token", t->eos, &key, out);
    if (t->pad >= 0) write_role(t, "pad_token", t->pad, &key, out);
    if (t->unk >= 0) write_role(t, "unk_token", t->unk, &key, out);
    aa_text_add(out, "}\n");
    if (key.failed) out->failed = true;
    aa_text_release(&key);
    return aa_text_status(out, err);
}
