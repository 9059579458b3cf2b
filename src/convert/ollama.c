/* convert/ollama: a Modelfile, by which Ollama knows how to talk to a GGUF file.
 *
 * Its templates are Go's, in which .System, .Prompt and .Response stand for one turn; the model's
 * is Jinja's, for a whole conversation. There is no translator here: a conversation is rendered by
 * what we know of the model's format (data/chat.h), with marks for what is said, and cut apart.
 * What comes before the first answer is a turn with a system prompt, what lies between the first
 * answer and the second one is a turn without.
 */
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "convert/convert.h"
#include "convert/convert_int.h"
#include "data/chat.h"

#define FIRST_LINE "# Written by autoane: ollama create NAME -f Modelfile\n"
/* Marks that no template has and no trimming takes. */
#define SYSTEM "\001s\001"
#define PROMPT "\001p\001"
#define ANSWER "\001a\001"

/* text[0..n) with Go's names for the marks. */
static void add_turn(aa_text *out, const char *text, size_t n) {
    static const struct { const char *mark, *name; } marks[] = {{SYSTEM, "{{ .System }}"},
                                                                {PROMPT, "{{ .Prompt }}"}};
    for (size_t at = 0; at < n;) {
        size_t step = 1;

        for (size_t i = 0; i < 2; i++)
            if (n - at >= 3 && memcmp(text + at, marks[i].mark, 3) == 0) {
                aa_text_add(out, marks[i].name);
                step = 3;
            }
        if (step == 1) aa_text_add_bytes(out, text + at, 1);
        at += step;
    }
}

/* What the chat says unasked before the first message, as Ollama's SYSTEM. */
static aa_status add_system(const aa_chat *chat, aa_text *out, aa_err *err) {
    const aa_chat_message with[] = {{AA_CHAT_SYSTEM, SYSTEM}, {AA_CHAT_USER, PROMPT}};
    aa_text said = {0}, unasked = {0};
    aa_chat_options o = {0};
    aa_status st = aa_chat_render(chat, with, 2, &o, &said, err);

    if (!st) st = aa_chat_render(chat, with + 1, 1, &o, &unasked, err);
    const char *mark = st ? NULL : strstr(said.data, SYSTEM);
    if (mark) {
        size_t before = (size_t)(mark - said.data), after = strlen(mark + 3);

        if (unasked.len > before + after && memcmp(said.data, unasked.data, before) == 0 &&
            memcmp(mark + 3, unasked.data + unasked.len - after, after) == 0)
            aa_text_printf(out, "SYSTEM \"\"\"%.*s\"\"\"\n",
                           (int)(unasked.len - before - after), unasked.data + before);
    }
    aa_text_release(&said);
    aa_text_release(&unasked);
    return st;
}

/* bos: what the conversation begins with and Ollama adds by itself. Line feeds between an answer
 * and the next turn belong to the answer. */
static aa_status add_template(const aa_chat *chat, const char *bos, aa_text *out, aa_err *err) {
    const aa_chat_message m[] = {{AA_CHAT_SYSTEM, SYSTEM}, {AA_CHAT_USER, PROMPT},
                                 {AA_CHAT_ASSISTANT, ANSWER}, {AA_CHAT_USER, PROMPT}};
    aa_err ignored = {0};
    aa_chat_options o = {.answer = true};
    aa_text t = {0};
    bool system = !aa_chat_render(chat, m, 4, &o, &t, &ignored);

    if (!system) aa_text_clear(&t);
    aa_status st = system ? AA_OK : aa_chat_render(chat, m + 1, 3, &o, &t, err);
    const char *answer = st ? NULL : strstr(t.data, ANSWER);
    if (answer) {
        const char *first = t.data + (strncmp(t.data, bos, strlen(bos)) ? 0 : strlen(bos));
        const char *end = aa_chat_end(chat) ? aa_chat_end(chat) : "", *next = answer + 3;

        if (strncmp(next, end, strlen(end)) == 0) next += strlen(end);
        size_t feeds = strspn(next, "\n");
        aa_text_add(out, "TEMPLATE \"\"\"");
        if (system) aa_text_add(out, "{{ if .System }}");
        if (system) add_turn(out, first, (size_t)(answer - first));
        if (system) aa_text_add(out, "{{ else }}");
        add_turn(out, next + feeds, strlen(next + feeds));
        aa_text_printf(out, "%s{{ .Response }}%s%.*s\"\"\"\n", system ? "{{ end }}" : "", end,
                       (int)feeds, next);
    }
    aa_text_release(&t);
    return st;
}

static aa_status make(aa_text *out, const char *gguf_path, aa_source *s, aa_err *err) {
    const char *slash = strrchr(gguf_path, '/');
    aa_err unknown = {0};
    aa_tokenizer *t = NULL;
    aa_chat *chat = NULL;
    aa_text bos = {0};

    aa_text_printf(out, FIRST_LINE "FROM ./%s\n", slash ? slash + 1 : gguf_path);
    if (!s->chat_template) return aa_text_status(out, err);
    AA_TRY(aa_source_tokenizer(s, &t, err));
    aa_status st = AA_OK;
    if (!aa_chat_new(&chat, s->chat_template, t, &unknown)) {
        int32_t id = aa_tokenizer_bos(t);

        if (id >= 0 && aa_tokenizer_add_bos(t))
            st = aa_decode(t, &id, 1, AA_DECODE_SPECIALS, &bos, err);
        if (!st) st = add_template(chat, bos.len ? bos.data : "", out, err);
        if (!st && !add_system(chat, out, &unknown) && aa_chat_end(chat))
            aa_text_printf(out, "PARAMETER stop \"%s\"\n", aa_chat_end(chat));
    }
    aa_chat_free(chat);
    aa_text_release(&bos);
    aa_tokenizer_free(t);
    return st ? st : aa_text_status(out, err);
}

/* Whether the file is absent, or one of ours. */
static aa_status is_free(const char *path, bool *out, aa_err *err) {
    aa_sys_info info;
    aa_sys_map map;
    int no = aa_sys_stat(&info, path);

    if (no) return aa_fail_errno(err, no, "cannot open", path);
    *out = info.kind == AA_SYS_ABSENT;
    if (*out) return AA_OK;
    AA_TRY(aa_map_open(&map, path, err));
    *out = map.size_bytes >= sizeof FIRST_LINE - 1 &&
           memcmp(map.data, FIRST_LINE, sizeof FIRST_LINE - 1) == 0;
    aa_sys_map_close(&map);
    return AA_OK;
}

aa_status aa_ollama_write(const char *gguf_path, aa_source *s, bool *out_written, aa_err *err) {
    const char *slash = strrchr(gguf_path, '/');
    char *path = aa_heap_printf("%.*sModelfile", slash ? (int)(slash + 1 - gguf_path) : 0,
                                gguf_path);
    aa_text text = {0};
    aa_sys_info info = {0};
    bool ours = false;
    aa_status st = path ? is_free(path, &ours, err) : aa_fail_memory(err, "a path", 0);

    ours &= aa_sys_stat(&info, gguf_path) == 0 && info.kind == AA_SYS_FILE;
    if (!st && ours) st = make(&text, gguf_path, s, err);
    if (!st && ours) st = aa_file_write(path, text.data, text.len, err);
    if (!st) *out_written = ours;
    aa_text_release(&text);
    aa_heap_free(path);
    return st;
}
