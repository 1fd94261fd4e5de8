/* Scores the sequences of a CSV file, many at a time.
 *
 *     scorer model.safetensors readings.csv > scores.csv
 *
 * The first line names the columns. Each further one is a step: the id of its sequence, then the
 * model's inputs, plain numbers without quotes. Steps of a sequence stand together; where the id
 * changes, the next begins. Written is, of each, the model's output after its last step. */
#include <fastrnn/fastrnn.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 64, LINE = 4096, ID = 64 };

typedef struct {
  const fr_model* model;
  size_t inputs, outputs; /* of a step */
  size_t steps, room;     /* of all sequences together, and for how many there is room */
  float* values;          /* steps x inputs: one sequence behind the other */
  size_t count, lengths[BATCH];
  char ids[BATCH][ID];
} batch;

typedef struct {
  FILE* file;
  size_t number; /* of the line, from 1 */
  char text[LINE];
} line;

/* Prints what is wrong and returns 1, as all functions here do on failure. */
static int fail(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("scorer: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  return 1;
}

/* Reads a line, without what ends it; *more becomes 0 behind the last one. */
static int read_line(line* l, int* more) {
  *more = fgets(l->text, LINE, l->file) != NULL;
  if (!*more) return ferror(l->file) ? fail("line %zu: cannot be read", l->number + 1) : 0;
  ++l->number;
  const size_t length = strlen(l->text);
  if (length == LINE - 1 && l->text[length - 1] != '\n') {
    return fail("line %zu: longer than %d characters", l->number, LINE - 2);
  }
  l->text[strcspn(l->text, "\r\n")] = '\0';
  return 0;
}

/* The numbers of a line: `text` begins behind the id's comma. */
static int parse_values(const line* l, const char* text, size_t count, float* values) {
  for (size_t i = 0; i < count; ++i) {
    char* end;
    values[i] = strtof(text, &end);
    if (end == text || !isfinite(values[i])) {
      return fail("line %zu, column %zu: expected a number, got '%.20s'", l->number, i + 2, text);
    }
    if (*end != (i + 1 < count ? ',' : '\0')) {
      return fail("line %zu: expected an id and %zu numbers, got '%s'", l->number, count, l->text);
    }
    text = end + 1;
  }
  return 0;
}

/* Makes room for one more step. */
static int grow(batch* b) {
  if (b->steps < b->room) return 0;
  const size_t room = b->room ? 2 * b->room : 1024;
  float* values = realloc(b->values, room * b->inputs * sizeof *values);
  if (!values) return fail("no memory for %zu steps", room);
  b->values = values;
  b->room = room;
  return 0;
}

/* Runs the batch, its sequences filled up to the longest, prints the scores, and empties it. */
static int score(batch* b) {
  size_t longest = 0;
  for (size_t i = 0; i < b->count; ++i) longest = b->lengths[i] > longest ? b->lengths[i] : longest;
  float* x = malloc((b->count * longest * b->inputs + 1) * sizeof *x);
  float* y = malloc((b->count * longest * b->outputs + 1) * sizeof *y);
  int status = x && y ? 0 : fail("no memory for %zu steps", b->count * longest);
  const float* from = b->values;
  for (size_t i = 0; !status && i < b->count; ++i) {
    const size_t size = b->lengths[i] * b->inputs;
    memcpy(x + i * longest * b->inputs, from, size * sizeof *x); /* what follows is not read */
    from += size;
  }
  if (!status && fr_model_run(b->model, x, b->count, longest, b->lengths, y)) {
    status = fail("%s", fr_last_error());
  }
  for (size_t i = 0; !status && i < b->count; ++i) {
    const float* last = y + (i * longest + b->lengths[i] - 1) * b->outputs;
    printf("%s", b->ids[i]);
    for (size_t k = 0; k < b->outputs; ++k) printf(",%.9g", last[k]);
    putchar('\n');
  }
  b->count = b->steps = 0;
  free(y);
  free(x);
  return status;
}

/* Adds the step of a line; the batch is scored where its sequence would be one too many. */
static int add(batch* b, const line* l) {
  const size_t length = strcspn(l->text, ",");
  if (length == 0 || length >= ID || l->text[length] == '\0') {
    return fail("line %zu: expected an id of at most %d characters and a comma, got '%.20s'",
                l->number, ID - 1, l->text);
  }
  const char* before = b->count ? b->ids[b->count - 1] : "";
  if (strlen(before) != length || memcmp(before, l->text, length)) {
    if (b->count == BATCH && score(b)) return 1;
    memcpy(b->ids[b->count], l->text, length);
    b->ids[b->count][length] = '\0';
    b->lengths[b->count++] = 0;
  }
  if (grow(b) ||
      parse_values(l, l->text + length + 1, b->inputs, b->values + b->steps * b->inputs)) {
    return 1;
  }
  ++b->steps;
  ++b->lengths[b->count - 1];
  return 0;
}

static int score_file(batch* b, FILE* file) {
  line l = {.file = file};
  int more;
  if (read_line(&l, &more)) return 1;
  if (!more) return fail("line 1: expected the names of the columns, got an empty file");
  size_t columns = 1;
  for (const char* c = l.text; *c; ++c) columns += *c == ',';
  if (columns != b->inputs + 1) {
    return fail("line 1: expected an id and %zu columns for the model's inputs, got %zu columns",
                b->inputs, columns);
  }
  printf("id");
  for (size_t k = 0; k < b->outputs; ++k) printf(",score_%zu", k);
  putchar('\n');
  for (;;) {
    if (read_line(&l, &more)) return 1;
    if (!more) return b->count ? score(b) : 0;
    if (add(b, &l)) return 1;
  }
}

static int run(const fr_model* model, FILE* file) {
  fr_model_info info = {.struct_size = sizeof info};
  if (fr_model_get_info(model, &info)) return fail("%s", fr_last_error());
  if (info.takes_tokens) return fail("expected a model that takes numbers, got one for tokens");
  batch b = {.model = model, .inputs = info.input_size, .outputs = info.output_size};
  int status = score_file(&b, file);
  if (!status && (fflush(stdout) || ferror(stdout))) status = fail("scores cannot be written");
  free(b.values);
  return status;
}

int main(int argc, char** argv) {
  if (argc != 3) {
    fputs("usage: scorer MODEL.safetensors SEQUENCES.csv > SCORES.csv\n", stderr);
    return 2;
  }
  FILE* file = fopen(argv[2], "r");
  if (!file) return fail("%s: cannot be opened", argv[2]);
  fr_model* model;
  int status = 0;
  if (fr_model_load(argv[1], NULL, &model)) {
    status = fail("%s", fr_last_error());
  } else {
    status = run(model, file);
  }
  fr_model_free(model);
  fclose(file);
  return status;
}
