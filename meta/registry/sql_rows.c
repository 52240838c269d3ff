// SPDX-License-Identifier: BSD-3-Clause
// Datasets: how a row is read and checked. All statements that find datasets select the same columns
// first (sql.h), so that one function reads a row: what a tags table (a calibs table, of a CALIBRATION
// collection) says of a dataset, completed by its row in `dataset`, by the day_obs of its exposure or
// visit, and by the records of each datastore.
#include "base/clock.h"
#include "base/log.h"
#include "meta/registry/sql.h"

// ---------------------------------------------------------------------------------------------
// Reading.

static int hex_value(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int sql_read_uuid(struct text hex, struct uuid *ret_uuid)
{
    size_t at = 0;
    bool has_hyphens = hex.size_bytes == UUID_DIGITS + 4;
    if (hex.size_bytes != UUID_DIGITS && !has_hyphens)
        return -EBADMSG;
    for (size_t i = 0; i < 16; i++) {
        if (has_hyphens && (i == 4 || i == 6 || i == 8 || i == 10) && hex.data[at++] != '-')
            return -EBADMSG;
        int high = hex_value(hex.data[at]), low = hex_value(hex.data[at + 1]);
        if (high < 0 || low < 0)
            return -EBADMSG;
        ret_uuid->bytes[i] = (uint8_t)(high * 16 + low);
        at += 2;
    }
    return 0;
}

void sql_write_uuid(const struct uuid *u, char ret_hex[UUID_DIGITS])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < 16; i++) {
        ret_hex[2 * i] = digits[u->bytes[i] >> 4];
        ret_hex[2 * i + 1] = digits[u->bytes[i] & 15];
    }
}

static bool read_digits(struct text t, size_t at, size_t count, int *ret_number)
{
    int number = 0;
    for (size_t i = at; i < at + count; i++) {
        if (i >= t.size_bytes || t.data[i] < '0' || t.data[i] > '9')
            return false;
        number = number * 10 + (t.data[i] - '0');
    }
    *ret_number = number;
    return true;
}

// Days from 1970-01-01 in the Gregorian calendar.
static int64_t days_of(int year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = y / 400, of_era = y % 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

// "2026-11-22 10:47:43.822225" in UTC: how version 1 of the datasets manager keeps it.
static int64_t read_ingest_text(struct text t)
{
    int year, month, day, hour, minute, second;
    int64_t fraction_ns = 0, unit_ns = NS_PER_S / 10;
    if (!read_digits(t, 0, 4, &year) || !read_digits(t, 5, 2, &month) ||
        !read_digits(t, 8, 2, &day) || !read_digits(t, 11, 2, &hour) ||
        !read_digits(t, 14, 2, &minute) || !read_digits(t, 17, 2, &second) || year < 1970 ||
        month < 1 || month > 12 || day < 1 || day > 31)
        return INT64_MIN;
    for (size_t i = 20; i < t.size_bytes && t.data[19] == '.' && unit_ns > 0; i++, unit_ns /= 10) {
        int digit;
        if (!read_digits(t, i, 1, &digit))
            break;
        fraction_ns += digit * unit_ns;
    }
    int64_t seconds = days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
    if (seconds > INT64_MAX / NS_PER_S - 1)
        return INT64_MIN;
    return tai_from_unix_ns(seconds * NS_PER_S + fraction_ns);
}

static int64_t read_ingest(const struct sql *q, struct sql_rows *rows)
{
    switch (sql_kind(q, rows, COLUMN_INGEST)) {
    case FIELD_INTEGER:
        return sql_integer(q, rows, COLUMN_INGEST);
    case FIELD_TEXT:
        return read_ingest_text(sql_text(q, rows, COLUMN_INGEST));
    default:
        return INT64_MIN;
    }
}

static int read_value(const struct sql *q, struct sql_rows *rows, int column, enum value_kind kind,
                      struct value *ret_value)
{
    if (sql_kind(q, rows, column) != (kind == VALUE_INTEGER ? FIELD_INTEGER : FIELD_TEXT))
        return -EBADMSG;
    *ret_value = kind == VALUE_INTEGER ? value_integer(sql_integer(q, rows, column))
                                       : value_text(sql_text(q, rows, column));
    return 0;
}

static int read_values(const struct sql_source *o, struct sql_rows *rows, struct value *values)
{
    const struct dataset_type *t = o->t;
    for (uint32_t i = 0; i < t->required_count; i++) {
        uint32_t level = t->columns[i];
        enum value_kind kind = o->s->elements[t->levels[level].element].kind;
        if (read_value(o->q, rows, COLUMN_FIRST + (int)i, kind, &values[level]) < 0)
            return -EBADMSG;
    }
    for (uint32_t i = 0; i < t->level_count; i++) {
        if (!t->levels[i].is_implied)
            continue;
        enum value_kind kind = o->s->elements[t->levels[i].element].kind;
        if (sql_kind(o->q, rows, COLUMN_DAY_OBS) == FIELD_NULL)
            values[i] = kind == VALUE_INTEGER ? value_integer(0) : value_text(TEXT(""));
        else if (read_value(o->q, rows, COLUMN_DAY_OBS, kind, &values[i]) < 0)
            return -EBADMSG;
    }
    return 0;
}

// ---------------------------------------------------------------------------------------------
// Files.

static struct text keep_text(struct sql *q, struct text t)
{
    struct text kept = {(const char *)(uintptr_t)q->texts.size_bytes, t.size_bytes};
    buffer_append_text(&q->texts, t);
    return kept;
}

static bool is_hex(struct text t)
{
    for (size_t i = 0; i < t.size_bytes; i++)
        if (hex_value(t.data[i]) < 0)
            return false;
    return t.size_bytes <= 128;
}

static int read_file(struct sql *q, const struct sql_rows *rows, int column, struct registry_file *f)
{
    if (sql_kind(q, rows, column) != FIELD_TEXT || sql_kind(q, rows, column + 1) != FIELD_TEXT)
        return -EBADMSG;
    struct text component = sql_text(q, rows, column), path = sql_text(q, rows, column + 1);
    if (path.size_bytes == 0)
        return -EBADMSG;
    if (text_equal(component, TEXT("__NULL_STRING__")))
        component = TEXT("");
    f->component = keep_text(q, component);
    f->path = keep_text(q, path);
    f->storage_class = keep_text(q, sql_text(q, rows, column + 2));
    struct text checksum = sql_text(q, rows, column + 3);
    f->checksum = keep_text(q, is_hex(checksum) ? checksum : TEXT(""));
    f->size_bytes = SIZE_UNKNOWN;
    if (sql_kind(q, rows, column + 4) == FIELD_INTEGER) {
        int64_t size_bytes = sql_integer(q, rows, column + 4);
        if (size_bytes >= 0 && size_bytes <= SIZE_RECORDED_MAX)
            f->size_bytes = size_bytes;
    }
    return 0;
}

bool sql_add_file(struct sql *q, const struct sql_rows *rows, int column, uint32_t datastore,
                  uint32_t *count)
{
    struct registry_file *f = &q->files[*count];
    bool has_room = *count < ROW_FILES_MAX;
    if (has_room && read_file(q, rows, column, f) == 0) {
        f->datastore = datastore;
        ++*count;
        return true;
    }
    sql_refuse_row(q, text_of(q->records_tables[datastore]),
                   has_room ? "it is not well-formed" : "its dataset has too many files");
    return has_room;
}

static void fix_files(struct sql *q, uint32_t count)
{
    const char *base = buffer_text(&q->texts).data;
    for (uint32_t i = 0; i < count; i++) {
        struct registry_file *f = &q->files[i];
        f->component.data = base + (uintptr_t)f->component.data;
        f->path.data = base + (uintptr_t)f->path.data;
        f->storage_class.data = base + (uintptr_t)f->storage_class.data;
        f->checksum.data = base + (uintptr_t)f->checksum.data;
    }
}

// ---------------------------------------------------------------------------------------------
// Rows.

// Whether the calibs table has another row of the same data ID and range, by its index.
static void add_exists(const struct sql_source *o, const char *other, const char *differs)
{
    struct sql *q = o->q;
    const char *collection = sql_collection_column(q);
    sql_add(q, ", EXISTS (SELECT 1 FROM ");
    sql_table(q, o->t->calibs_table);
    buffer_format(&q->text,
                  " AS o WHERE o.dataset_type_id = t.dataset_type_id AND o.%s = t.%s AND %s",
                  collection, collection, q->dialect->same_range);
    for (uint32_t i = 0; i < o->t->required_count; i++) {
        sql_add(q, " AND o.");
        sql_name(q, sql_column(o, i));
        sql_add(q, " = t.");
        sql_name(q, sql_column(o, i));
    }
    buffer_format(&q->text, " AND o.dataset_id %s t.dataset_id%s)", other, differs);
}

void sql_add_twins(const struct sql_source *o)
{
    BUFFER_CLEANUP differs = {0};
    const char *place = o->q->dialect->place_column;
    buffer_format(&differs, " AND o.%s <> t.%s", place, place);
    add_exists(o, "<>", "");
    add_exists(o, "=", differs.data);
}

void sql_add_day_obs_key(const struct sql_source *o, const char *begin)
{
    const struct element *e = &o->s->elements[o->t->day_obs_source];
    for (uint32_t i = 0; i < e->required_count; i++) {
        sql_add(o->q, i ? " AND " : begin);
        sql_add(o->q, "x.");
        sql_name(o->q, sql_key_column(o->s, e, e->required[i]));
        sql_add(o->q, " = t.");
        sql_name(o->q, o->s->elements[e->required[i]].name);
    }
}

// The client writes every empty range in one way.
int sql_read_span(const struct sql *q, const struct sql_rows *rows, int column,
                  struct timespan *ret_span)
{
    if (sql_kind(q, rows, column) != FIELD_INTEGER || sql_kind(q, rows, column + 1) != FIELD_INTEGER)
        return -EBADMSG;
    *ret_span = (struct timespan){sql_integer(q, rows, column), sql_integer(q, rows, column + 1)};
    if (timespan_is_empty(ret_span))
        *ret_span = TIMESPAN_EMPTY;
    return 0;
}

static int read_range(const struct sql *q, struct sql_rows *rows, struct registry_row *row)
{
    row->has_range = true;
    row->has_twin = sql_integer(q, rows, COLUMN_TWIN);
    row->is_double = sql_integer(q, rows, COLUMN_DOUBLE);
    return sql_read_span(q, rows, COLUMN_BEGIN, &row->range);
}

int sql_hand_out(const struct sql_source *o, struct sql_rows *rows)
{
    struct sql *q = o->q;
    struct registry_row row = {
        .type_id = o->t->id,
        .ingest_tai_ns = read_ingest(q, rows),
        .values = q->values,
        .value_count = o->t->level_count,
        .files = q->files,
    };
    bool is_good = sql_read_collection(q, rows, COLUMN_COLLECTION, &row.collection_id) &&
                   sql_read_collection(q, rows, COLUMN_RUN, &row.run_id) &&
                   sql_read_uuid(sql_text(q, rows, COLUMN_ID), &row.uuid) == 0 &&
                   read_values(o, rows, q->values) == 0 &&
                   (!o->is_calibs || read_range(q, rows, &row) == 0);
    if (!is_good)
        sql_refuse_row(q, sql_source_table(o),
                       "its dataset id, its data ID or its range is not well-formed");
    buffer_clear(&q->texts);
    int r = q->dialect->files(q, rows, &row.file_count);
    if (r < 0 || !is_good)
        return r;
    fix_files(q, row.file_count);
    r = o->each(&row, o->context);
    return r < 0 ? r : 1;
}
