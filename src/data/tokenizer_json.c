/* data/tokenizer_json: writing tokenizer.json as the `tokenizers` library reads it.
 *
 * One tokenizer has one text: ids ascending, merges in order, every added token also in the
 * vocabulary (so that the library cannot give it another id). The tokenizer's digest is that of
 * this text.
 */
#include <string.h>
#include "data/tokenizer_int.h"

void aa__key_of(const aa_tokenizer *t, int32_t id, aa_text *out) {
    if (t->added_at[id] >= 0)
        aa_text_add_bytes(out, t->added[t->added_at[id]].text, t->added[t->added_at[id]].len);
    else if (aa__is_byte(t, id)) aa_text_printf(out, "<0x%02X>", (unsigned char)t->piece[id][0]);
    else if (!t->piece[id]) return;
    else if (t->kind == AA_TOKENIZER_SPM) aa__mark_spaces(out, t->piece[id], t->piece_len[id]);
    else aa__stand_in_text(out, t->piece[id], t->piece_len[id]);
}

static void write_string(const aa_tokenizer *t, int32_t id, aa_text *key, aa_text *out) {
    aa_text_clear(key);
    aa__key_of(t, id, key);
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
        t->prefix != AA_PREFIX_NONE ? "true" : "false", use_regex ? "true" : "false");
}

/* SentencePiece's spaces, as transformers converts them: by a normaliser where every stretch gets
 * one before it, else by a pre-tokenizer that does not split. */
static void write_spm_spaces(const aa_tokenizer *t, aa_text *out) {
    static const char replace[] = "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},"
                                  "\"content\":\"" AA__SPACE_MARK "\"}";
    static const char *const schemes[] = {
        [AA_PREFIX_UNLESS_SPACE] = "always", [AA_PREFIX_FIRST] = "first"};
    if (t->prefix == AA_PREFIX_ALWAYS)
        aa_text_printf(out, "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":"
                            "\"Prepend\",\"prepend\":\"" AA__SPACE_MARK "\"},%s]},\n", replace);
    else aa_text_printf(out, "\"normalizer\":%s,\n", t->prefix ? "null" : replace);
    if (t->prefix == AA_PREFIX_ALWAYS || t->prefix == AA_PREFIX_NONE)
        aa_text_add(out, "\"pre_tokenizer\":null,\n");
    else
        aa_text_printf(out, "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\""
                            AA__SPACE_MARK "\",\"prepend_scheme\":\"%s\",\"split\":false},\n",
                       schemes[t->prefix]);
}

static void write_decoder(const aa_tokenizer *t, aa_text *out) {
    if (t->kind != AA_TOKENIZER_SPM) {
        aa_text_add(out, "\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_"
                         "offsets\":true,\"use_regex\":true},\n");
        return;
    }
    static const char strip[] =
        ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}";
    aa_text_printf(out,
                   "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\","
                   "\"pattern\":{\"String\":\"" AA__SPACE_MARK "\"},\"content\":\" \"},"
                   "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}%s]},\n",
                   t->prefix ? strip : "");
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

/* "a b", or ["a","b"] where a space would be taken for that between them. */
static void write_merge(const aa_tokenizer *t, const int32_t merge[2], aa_text *key, aa_text *out) {
    aa_text both = {0};
    aa__key_of(t, merge[0], &both);
    aa_text_add(&both, " ");
    aa__key_of(t, merge[1], &both);
    const char *space = both.failed ? NULL : strchr(both.data, ' ');
    if (space && !strchr(space + 1, ' ')) {
        aa_text_json_string(out, both.data, both.len);
    } else {
        aa_text_add(out, "[");
        write_string(t, merge[0], key, out);
        aa_text_add(out, ",");
        write_string(t, merge[1], key, out);
        aa_text_add(out, "]");
    }
    if (both.failed) out->failed = true;
    aa_text_release(&both);
}

static void write_model(const aa_tokenizer *t, aa_text *key, aa_text *out) {
    bool falls_back = false;
    for (size_t id = 0; id < t->n_vocab; id++) falls_back |= aa__is_byte(t, (int32_t)id);
    aa_text_add(out, "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":");
    if (t->unk >= 0) write_string(t, t->unk, key, out);
    else aa_text_add(out, "null");
    aa_text_printf(
        out,
        ",\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":%s,"
        "\"byte_fallback\":%s,\"ignore_merges\":%s,\n\"vocab\":{",
        t->fuse_unk ? "true" : "false", falls_back ? "true" : "false",
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
    for (size_t i = 0; i < t->n_merges; i++) {
        aa_text_add(out, i ? ",\n" : "\n");
        write_merge(t, t->merges[i], key, out);
    }
    aa_text_add(out, "]}}\n");
}

aa_status aa_tokenizer_write_json(const aa_tokenizer *t, aa_text *out, aa_err *err) {
    aa_text key = {0};
    aa_text_add(out, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\n");
    write_added(t, out);
    if (t->kind == AA_TOKENIZER_SPM) {
        write_spm_spaces(t, out);
    } else {
        aa_text_printf(out, "\"normalizer\":%s,\n", t->nfc ? "{\"type\":\"NFC\"}" : "null");
        write_pre_tokenizer(t, out);
    }
    write_post_processor(t, &key, out);
    write_decoder(t, out);
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

aa_status aa_tokenizer_write_config_json(const aa_tokenizer *t, size_t max_length,
                                         const char *chat_template, aa_text *out, aa_err *err) {
    aa_text key = {0};
    aa_text_add(out, "{\"tokenizer_class\":\"PreTrainedTokenizerFast\"");
    aa_text_printf(out, ",\"model_max_length\":%zu,\"clean_up_tokenization_spaces\":false",
                   max_length);
    write_role(t, "bos_token", t->bos, &key, out);
    write_role(t, "eos_token", t->eos, &key, out);
    if (t->pad >= 0) write_role(t, "pad_token", t->pad, &key, out);
    if (t->unk >= 0) write_role(t, "unk_token", t->unk, &key, out);
    if (chat_template) {
        aa_text_json_key(out, "chat_template");
        aa_text_json_string(out, chat_template, strlen(chat_template));
    }
    aa_text_add(out, "}\n");
    if (key.failed) out->failed = true;
    aa_text_release(&key);
    return aa_text_status(out, err);
}
