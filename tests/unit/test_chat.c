/* Chat templates without Jinja: spellings that are the same template, what is read from one, what
 * is refused, and where answers lie. The renderings themselves are compared with Jinja's by
 * tests/interop/chat.py. */
#include "support/check.h"
#include <string.h>
#include "data/chat.h"

#define BODY "'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'"
#define CHATML "{% for message in messages %}{{" BODY "}}{% endfor %}"
#define ANSWER "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"

static aa_tokenizer *bytes(void) {
    aa_err err = {0};
    aa_tokenizer *t = NULL;
    check_ok(aa_tokenizer_new_bytes(&t, &err));
    return t;
}

static const aa_chat_message talk[] = {{AA_CHAT_USER, "Hi"}, {AA_CHAT_ASSISTANT, " Ho "},
                                       {AA_CHAT_USER, "?"}};

static void check_text(const char *jinja, size_t n, bool answer, const char *want) {
    aa_err err = {0};
    aa_tokenizer *t = bytes();
    aa_chat *c = NULL;
    aa_text out = {0};
    aa_chat_options o = {.answer = answer};
    check_ok(aa_chat_new(&c, jinja, t, &err));
    check_ok(aa_chat_render(c, talk, n, &o, &out, &err));
    assert_string_equal(out.data, want);
    aa_text_release(&out);
    aa_chat_free(c);
    aa_tokenizer_free(t);
}

static void test_spellings(void **state) {
    (void)state;
    static const char *const same[] = {
        CHATML ANSWER,
        "{%- for message in messages -%}\n  {{- \"<|im_start|>\" + message.role + \"\\n\" + "
        "message.content + \"<|im_end|>\\n\" -}}\n{%- endfor -%}{# a remark #}",
        "{%for message in messages%}{{'<|im_start|>'+message[\"role\"]+'\n'\n+message['content']+"
        "'<|im_end|>\n'}}{%endfor%}",
    };
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        check_text(same[i], 1, true, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
}

static void test_what_a_template_says(void **state) {
    (void)state;
    check_text("{% if loop.first %}{{ '<|im_start|>system\\nYou\\'re X.<|im_end|>\\n' }}{% endif %}"
               CHATML, 1, false,
               "<|im_start|>system\nYou're X.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n");
    check_text("{{ bos_token }}" CHATML "{{ '<|im_start|>assistant\\n<think>\\n' }}", 1, true,
               "<|endoftext|><|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n");
}

static void test_answers(void **state) {
    (void)state;
    aa_err err = {0};
    aa_tokenizer *t = bytes();
    aa_chat *c = NULL;
    aa_text out = {0};
    aa_span span[3];
    aa_chat_options o = {.answers = span};
    int32_t ids[2];
    check_ok(aa_chat_new(&c, CHATML, t, &err));
    check_ok(aa_chat_render(c, talk, 3, &o, &out, &err));
    assert_int_equal(o.n_answers, 1);
    assert_memory_equal(out.data + span[0].begin, " Ho <|im_end|>\n<", 16);
    assert_int_equal(span[0].end - span[0].begin, 14);
    assert_string_equal(aa_chat_end(c), "<|im_end|>");
    assert_int_equal(aa_chat_end_ids(c, t, ids), 1); /* the end is no token of this tokenizer */
    assert_int_equal(ids[0], 256);
    aa_chat_free(c);
    aa_text_clear(&out);
    check_ok(aa_chat_new_raw(&c, t, &err));
    check_ok(aa_chat_render(c, talk, 3, &o, &out, &err));
    assert_string_equal(out.data, "Hi\n Ho \n?\n");
    aa_chat_free(c);
    aa_text_release(&out);
    aa_tokenizer_free(t);
}

static void test_refusals(void **state) {
    (void)state;
    static const char *const bad[] = {
        "", "{", "{{", "{% ", "{#", "{{ '", "{{ '\\", "{{ 'a' + ", "{{ message['content'] }}",
        "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n",
        "{{ '<|im_start|>' + message['role'] + ' ' + message['content'] + '<|im_end|>' + '\\n' }}",
        ("{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + "
         "'<|im_end|>' + '\\n' }}"),
    };
    aa_tokenizer *t = bytes();
    aa_chat *c = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        aa_err err = {0};
        assert_int_equal(aa_chat_new(&c, bad[i], t, &err), AA_EUNSUPPORTED);
        assert_non_null(strstr(err.message, "--raw"));
    }
    aa_err err = {0};
    assert_int_equal(aa_chat_new(&c, NULL, t, &err), AA_ENOTFOUND);
    assert_non_null(strstr(err.message, "--raw"));
    static const char mistral[] = "{{ bos_token }}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
                                  "{{ message['content'] + eos_token }}";
    const aa_chat_message system[] = {{AA_CHAT_SYSTEM, "x"}, {AA_CHAT_USER, "y"}};
    aa_chat_options o = {0};
    aa_text out = {0};
    err = (aa_err){0};
    check_ok(aa_chat_new(&c, mistral, t, &err));
    assert_int_equal(aa_chat_render(c, system, 2, &o, &out, &err), AA_EUSAGE);
    assert_non_null(strstr(err.message, "system prompt"));
    err = (aa_err){0};
    assert_int_equal(aa_chat_render(c, talk + 1, 2, &o, &out, &err), AA_EUSAGE);
    assert_non_null(strstr(err.message, "in turn"));
    aa_text_release(&out);
    aa_chat_free(c);
    aa_tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spellings), cmocka_unit_test(test_what_a_template_says),
        cmocka_unit_test(test_answers), cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests_name("unit_chat", tests, NULL, NULL);
}
