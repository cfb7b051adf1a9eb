/*
 * The client side of the control plane's HTTP API, over its unix socket.
 */
#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "redteam/redteam.h"

enum { ANSWER_MAX = 32 << 20 };

struct api {
    CURL *curl;
    struct curl_slist *headers;
    char *body;
    size_t len;
};

static size_t collect(char *data, size_t size, size_t n, void *arg)
{
    struct api *a = arg;
    size_t len = size * n;

    if (a->len + len > ANSWER_MAX)
        return 0;
    a->body = x_realloc(a->body, a->len + len + 1);
    memcpy(a->body + a->len, data, len);
    a->len += len;
    a->body[a->len] = 0;
    return len;
}

/* Ends a request that waits, when the user wants to stop. */
static int progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    (void)arg;
    (void)a;
    (void)b;
    (void)c;
    (void)d;
    return interrupted;
}

struct api *api_open(const char *socket_path)
{
    struct api *a = x_calloc(1, sizeof(*a));

    a->curl = curl_easy_init();
    if (!a->curl)
        abort();
    (void)curl_easy_setopt(a->curl, CURLOPT_UNIX_SOCKET_PATH, socket_path);
    (void)curl_easy_setopt(a->curl, CURLOPT_WRITEFUNCTION, collect);
    (void)curl_easy_setopt(a->curl, CURLOPT_WRITEDATA, a);
    (void)curl_easy_setopt(a->curl, CURLOPT_TIMEOUT, 90L);
    (void)curl_easy_setopt(a->curl, CURLOPT_NOPROGRESS, 0L);
    (void)curl_easy_setopt(a->curl, CURLOPT_XFERINFOFUNCTION, progress);
    (void)curl_easy_setopt(a->curl, CURLOPT_NOSIGNAL, 1L);
    api_set_token(a, NULL);
    return a;
}

void api_close(struct api *a)
{
    if (!a)
        return;
    curl_easy_cleanup(a->curl);
    curl_slist_free_all(a->headers);
    free(a->body);
    free(a);
}

void api_set_token(struct api *a, const char *token)
{
    char line[256];

    curl_slist_free_all(a->headers);
    a->headers = curl_slist_append(NULL, "Content-Type: application/json");
    if (token && io_format(line, sizeof(line), "Authorization: Bearer %s", token))
        a->headers = curl_slist_append(a->headers, line);
    (void)curl_easy_setopt(a->curl, CURLOPT_HTTPHEADER, a->headers);
}

long api_call(struct api *a, const char *method, const char *path, json_t *body, json_t **out, struct err *e)
{
    CLEANUP_FREE char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    char url[512];
    long status = 0;
    CURLcode rc;

    a->len = 0;
    if (out)
        *out = NULL;
    (void)io_format(url, sizeof(url), "http://localhost%s", path);
    (void)curl_easy_setopt(a->curl, CURLOPT_URL, url);
    if (text) {
        (void)curl_easy_setopt(a->curl, CURLOPT_POSTFIELDS, text);
        (void)curl_easy_setopt(a->curl, CURLOPT_POSTFIELDSIZE, (long)strlen(text));
    } else {
        (void)curl_easy_setopt(a->curl, CURLOPT_HTTPGET, 1L);
    }
    (void)curl_easy_setopt(a->curl, CURLOPT_CUSTOMREQUEST, method);
    rc = curl_easy_perform(a->curl);
    (void)curl_easy_setopt(a->curl, CURLOPT_POSTFIELDS, NULL);
    if (rc != CURLE_OK)
        return err_set(e, EIO, "%s %s: %s", method, path,
                       interrupted ? "interrupted" : curl_easy_strerror(rc));
    (void)curl_easy_getinfo(a->curl, CURLINFO_RESPONSE_CODE, &status);
    if (out)
        *out = a->len ? json_loadb(a->body, a->len, 0, NULL) : NULL;
    return status;
}

long api_need(struct api *a, const char *method, const char *path, json_t *body, json_t **out, struct err *e)
{
    long status = api_call(a, method, path, body, out, e);

    if (status >= 400) {
        (void)err_set(e, EIO, "%s %s answered %ld: %.300s", method, path, status, a->len ? a->body : "");
        if (out) {
            json_decref(*out);
            *out = NULL;
        }
        return -1;
    }
    return status;
}
