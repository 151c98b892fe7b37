/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * types.c - media types by file name extension.
 *
 * The table holds what browsers and package builders use today, by the IANA registry where a type is registered.  Types
 * whose default charset is a guess (text, JavaScript) get the configured one.  An instance merges table and directives
 * once, at its start.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "static.h"

static const struct {
	const char *ext, *type;
} table[] = {
    {"3gp", "video/3gpp"},
    {"7z", "application/x-7z-compressed"},
    {"aac", "audio/aac"},
    {"apk", "application/vnd.android.package-archive"},
    {"apng", "image/apng"},
    {"atom", "application/atom+xml"},
    {"avi", "video/x-msvideo"},
    {"avif", "image/avif"},
    {"bin", "application/octet-stream"},
    {"bmp", "image/bmp"},
    {"br", "application/x-brotli"},
    {"bz2", "application/x-bzip2"},
    {"cjs", "text/javascript"},
    {"conf", "text/plain"},
    {"crt", "application/x-x509-ca-cert"},
    {"css", "text/css"},
    {"csv", "text/csv"},
    {"cur", "image/x-icon"},
    {"dart", "text/plain"},
    {"deb", "application/vnd.debian.binary-package"},
    {"der", "application/x-x509-ca-cert"},
    {"dmg", "application/x-apple-diskimage"},
    {"doc", "application/msword"},
    {"docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
    {"ejs", "text/plain"},
    {"eot", "application/vnd.ms-fontobject"},
    {"epub", "application/epub+zip"},
    {"exe", "application/octet-stream"},
    {"flac", "audio/flac"},
    {"geojson", "application/geo+json"},
    {"gif", "image/gif"},
    {"glb", "model/gltf-binary"},
    {"gltf", "model/gltf+json"},
    {"gpx", "application/gpx+xml"},
    {"gz", "application/gzip"},
    {"heic", "image/heic"},
    {"heif", "image/heif"},
    {"htc", "text/x-component"},
    {"htm", "text/html"},
    {"html", "text/html"},
    {"ico", "image/x-icon"},
    {"ics", "text/calendar"},
    {"img", "application/octet-stream"},
    {"iso", "application/octet-stream"},
    {"jar", "application/java-archive"},
    {"jpeg", "image/jpeg"},
    {"jpg", "image/jpeg"},
    {"js", "text/javascript"},
    {"json", "application/json"},
    {"json5", "application/json5"},
    {"jsonld", "application/ld+json"},
    {"jxl", "image/jxl"},
    {"kml", "application/vnd.google-earth.kml+xml"},
    {"kmz", "application/vnd.google-earth.kmz"},
    {"log", "text/plain"},
    {"m3u8", "application/vnd.apple.mpegurl"},
    {"m4a", "audio/mp4"},
    {"m4v", "video/mp4"},
    {"map", "application/json"},
    {"md", "text/markdown"},
    {"mid", "audio/midi"},
    {"midi", "audio/midi"},
    {"mjs", "text/javascript"},
    {"mka", "audio/matroska"},
    {"mkv", "video/matroska"},
    {"mov", "video/quicktime"},
    {"mp3", "audio/mpeg"},
    {"mp4", "video/mp4"},
    {"mpd", "application/dash+xml"},
    {"mpeg", "video/mpeg"},
    {"mpg", "video/mpeg"},
    {"msi", "application/octet-stream"},
    {"oga", "audio/ogg"},
    {"odp", "application/vnd.oasis.opendocument.presentation"},
    {"ods", "application/vnd.oasis.opendocument.spreadsheet"},
    {"odt", "application/vnd.oasis.opendocument.text"},
    {"ogg", "audio/ogg"},
    {"ogv", "video/ogg"},
    {"opus", "audio/ogg"},
    {"otf", "font/otf"},
    {"pdf", "application/pdf"},
    {"pem", "application/x-x509-ca-cert"},
    {"png", "image/png"},
    {"ppt", "application/vnd.ms-powerpoint"},
    {"pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"},
    {"ps", "application/postscript"},
    {"rar", "application/vnd.rar"},
    {"rpm", "application/x-redhat-package-manager"},
    {"rss", "application/rss+xml"},
    {"rtf", "application/rtf"},
    {"sh", "application/x-sh"},
    {"shtml", "text/html"},
    {"svg", "image/svg+xml"},
    {"tar", "application/x-tar"},
    {"tgz", "application/gzip"},
    {"tif", "image/tiff"},
    {"tiff", "image/tiff"},
    {"ts", "video/mp2t"},
    {"tsv", "text/tab-separated-values"},
    {"ttc", "font/collection"},
    {"ttf", "font/ttf"},
    {"txt", "text/plain"},
    {"vcf", "text/vcard"},
    {"vtt", "text/vtt"},
    {"wasm", "application/wasm"},
    {"wav", "audio/wav"},
    {"weba", "audio/webm"},
    {"webm", "video/webm"},
    {"webmanifest", "application/manifest+json"},
    {"webp", "image/webp"},
    {"whl", "application/zip"},
    {"woff", "font/woff"},
    {"woff2", "font/woff2"},
    {"xht", "application/xhtml+xml"},
    {"xhtml", "application/xhtml+xml"},
    {"xls", "application/vnd.ms-excel"},
    {"xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"},
    {"xml", "text/xml"},
    {"xsl", "text/xml"},
    {"xz", "application/x-xz"},
    {"yaml", "application/yaml"},
    {"yml", "application/yaml"},
    {"zip", "application/zip"},
    {"zst", "application/zstd"},
};
#define NTABLE (sizeof(table) / sizeof(table[0]))

static int
by_ext(const void *a, const void *b)
{
	return strcasecmp(((const struct st_type *)a)->ext, ((const struct st_type *)b)->ext);
}

/* The type as it is sent.  0 or -ENOMEM. */
static int
whole_type(struct lc_str *ret, int *owned, const char *type, const char *charset)
{
	size_t n = strlen(type);

	*owned = 0;
	*ret = (struct lc_str){type, n};
	if (!charset || strchr(type, ';') ||
	    (strncasecmp(type, "text/", 5) != 0 && strcasecmp(type, "application/javascript") != 0))
		return 0;
	size_t c = strlen(charset);
	char *p = malloc(n + 10 + c);
	if (!p)
		return -ENOMEM;
	memcpy(p, type, n);
	memcpy(p + n, "; charset=", 10);
	memcpy(p + n + 10, charset, c);
	*owned = 1;
	*ret = (struct lc_str){p, n + 10 + c};
	return 0;
}

/* The later of two with the same extension holds: a directive is later than the table. */
static int
add(struct st_types *t, const char *ext, const char *type, const char *charset)
{
	struct st_type *e = NULL;
	struct lc_str s;
	int owned;

	if (*ext == '.')
		ext++;
	if (whole_type(&s, &owned, type, charset) < 0)
		return -ENOMEM;
	for (size_t k = NTABLE <= t->n ? 0 : t->n; k < t->n && !e; k++)
		if (strcasecmp(t->v[k].ext, ext) == 0)
			e = &t->v[k];
	if (!e)
		e = &t->v[t->n++];
	else if (e->owned)
		free((void *)(uintptr_t)e->type.p);
	*e = (struct st_type){ext, s, owned};
	return 0;
}

int
st_types_make(struct st_types *ret, const struct lc_list *added, const char *other, const char *charset)
{
	struct st_types t = {0};
	int r;

	t.v = calloc(NTABLE + added->n / 2, sizeof(*t.v));
	r = t.v ? whole_type(&t.other, &t.other_owned, other, charset) : -ENOMEM;
	for (size_t k = 0; k < NTABLE && r == 0; k++)
		r = add(&t, table[k].ext, table[k].type, charset);
	for (uint64_t k = 0; k + 1 < added->n && r == 0; k += 2)
		r = add(&t, added->v[k + 1], added->v[k], charset);
	if (r < 0) {
		st_types_free(&t);
		return r;
	}
	qsort(t.v, t.n, sizeof(*t.v), by_ext);
	*ret = t;
	return 0;
}

void
st_types_free(struct st_types *t)
{
	for (size_t k = 0; k < t->n; k++)
		if (t->v[k].owned)
			free((void *)(uintptr_t)t->v[k].type.p);
	if (t->other_owned)
		free((void *)(uintptr_t)t->other.p);
	free(t->v);
	*t = (struct st_types){0};
}

struct lc_str
st_type_of(const struct st_types *t, const char *name, size_t n)
{
	char ext[32];
	size_t k = n;

	while (k > 0 && name[k - 1] != '.' && name[k - 1] != '/')
		k--;
	/* no dot, or nothing but a dot before it (".bashrc"), or behind it */
	if (k < 2 || name[k - 1] != '.' || name[k - 2] == '/' || n == k || n - k >= sizeof(ext))
		return t->other;
	memcpy(ext, name + k, n - k);
	ext[n - k] = '\0';
	const struct st_type what = {.ext = ext}, *e = bsearch(&what, t->v, t->n, sizeof(*t->v), by_ext);
	return e ? e->type : t->other;
}
