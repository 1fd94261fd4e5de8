/* Pools in the C API: the bits of a stream alone, what closing and shutting down cancel, and what is
 * refused. Threads and chance: test_stream_pool.cpp. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "fastrnn/fastrnn.h"
#include "small_model.h"

enum { inputs = 2, outputs = 2, steps = 20, sessions = 3 };

static int failures = 0;

static void report(int ok, const char* what, int line) {
  if (ok) return;
  ++failures;
  printf("line %d: %s (last error: %s)\n", line, what, fr_last_error());
}
#define CHECK(condition) report((condition) ? 1 : 0, #condition, __LINE__)
/* A status, and a part of the message. */
#define CHECK_FAILS(call, status, part) \
  report((call) == (status) && strstr(fr_last_error(), part), #call, __LINE__)

static int same(const float* a, const float* b, size_t count) {
  return memcmp(a, b, count * sizeof *a) == 0;
}

static float x[sessions * steps * inputs];
static float expected[sessions * steps * outputs];
static const int32_t tokens[steps] = {0, 1, 1, 0, 1};

static void make_input(const fr_model* model) {
  int i;
  for (i = 0; i < sessions * steps * inputs; ++i) x[i] = (float)((i * 7919) % 201 - 100) / 50.0f;
  for (i = 0; i < sessions; ++i) {
    fr_stream* stream = NULL;
    CHECK(fr_stream_create(model, NULL, &stream) == FR_OK);
    CHECK(fr_stream_process(stream, x + i * steps * inputs, steps,
                            expected + i * steps * outputs) == FR_OK);
    fr_stream_free(stream);
  }
}

/* What done() was told, and how often. */
typedef struct told {
  int calls;
  fr_status status;
} told;

static void tell(void* context, fr_status status) {
  told* to = (told*)context;
  ++to->calls;
  to->status = status;
}

static fr_pool* create(const fr_model* model, size_t capacity, size_t max_pending,
                       double max_delay) {
  fr_pool* pool = NULL;
  fr_pool_options options;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.capacity = capacity;
  options.threads = 2;
  options.max_pending = max_pending;
  options.max_delay = max_delay;
  CHECK(fr_pool_create(model, &options, &pool) == FR_OK && pool);
  return pool;
}

static fr_session open_session(fr_pool* pool) {
  fr_session session = 0;
  CHECK(fr_pool_open(pool, NULL, 0, &session) == FR_OK && session != 0);
  return session;
}

static fr_pool_request request_of(fr_session session, const float* in, size_t count, float* y,
                                  told* to) {
  fr_pool_request request;
  memset(&request, 0, sizeof request);
  request.struct_size = sizeof request;
  request.session = session;
  request.x = in;
  request.steps = count;
  request.y = y;
  request.done = to ? tell : NULL;
  request.context = to;
  return request;
}

static void test_steps(const fr_model* model) {
  fr_pool* pool = NULL;
  fr_session session;
  fr_stream* stream = NULL;
  float y[steps * outputs], of_stream[steps * outputs];
  CHECK(fr_pool_create(model, NULL, &pool) == FR_OK && pool);
  session = open_session(pool);
  CHECK(fr_pool_step(pool, session, x, 1, y) == FR_OK);
  CHECK(fr_pool_step(pool, session, x + inputs, steps - 1, y + outputs) == FR_OK);
  CHECK(same(y, expected, steps * outputs));
  CHECK(fr_pool_step(pool, session, NULL, 0, NULL) == FR_OK);
  CHECK(fr_pool_close(pool, session) == FR_OK);

  session = open_session(pool);
  CHECK(fr_stream_create(model, NULL, &stream) == FR_OK);
  CHECK(fr_stream_process_tokens(stream, tokens, steps, of_stream) == FR_OK);
  CHECK(fr_pool_step_tokens(pool, session, tokens, steps, y) == FR_OK);
  CHECK(same(y, of_stream, steps * outputs));
  fr_stream_free(stream);
  fr_pool_free(pool);
}

/* Several sessions in one array; of one of them two requests, with a reset between. */
static void test_submit(const fr_model* model) {
  fr_pool* pool = create(model, 8, 0, 0);
  fr_pool_request requests[sessions + 1];
  told to[sessions + 1];
  float y[(sessions + 1) * steps * outputs];
  int i;
  memset(to, 0, sizeof to);
  for (i = 0; i < sessions; ++i)
    requests[i] = request_of(open_session(pool), x + i * steps * inputs, steps,
                             y + i * steps * outputs, &to[i]);
  requests[sessions] = requests[0];
  requests[sessions].reset = 1;
  requests[sessions].y = y + sessions * steps * outputs;
  requests[sessions].context = &to[sessions];
  CHECK(fr_pool_submit(pool, requests, sessions + 1, 0) == FR_OK);
  CHECK(fr_pool_submit(pool, NULL, 0, 0) == FR_OK);
  for (i = 0; i < sessions; ++i) /* comes after what was submitted before */
    CHECK(fr_pool_step(pool, requests[i].session, NULL, 0, NULL) == FR_OK);
  for (i = 0; i <= sessions; ++i) CHECK(to[i].calls == 1 && to[i].status == FR_OK);
  CHECK(same(y, expected, sessions * steps * outputs));
  CHECK(same(y + sessions * steps * outputs, expected, steps * outputs));
  fr_pool_free(pool);
}

static void test_states(const fr_model* model) {
  enum { half = steps / 2, most = 200 };
  fr_pool* pool = create(model, 8, 0, 0);
  const fr_session a = open_session(pool), b = open_session(pool);
  fr_session c;
  const size_t size = fr_pool_state_bytes(pool);
  unsigned char state[most], again[most], damaged[most];
  float y[steps * outputs];
  fr_pool_request request;
  told to = {0, FR_OK};
  CHECK(size > 3 * sizeof(float) && size <= most);
  CHECK(fr_pool_state_bytes(NULL) == 0);
  CHECK(fr_pool_step(pool, a, x, half, y) == FR_OK);
  CHECK(fr_pool_export(pool, a, state, size) == FR_OK);
  CHECK(fr_pool_import(pool, b, state, size) == FR_OK);
  CHECK(fr_pool_step(pool, b, x + half * inputs, half, y + half * outputs) == FR_OK);
  CHECK(same(y, expected, steps * outputs));
  CHECK(fr_pool_open(pool, state, size, &c) == FR_OK);
  CHECK(fr_pool_step(pool, c, x + half * inputs, half, y + half * outputs) == FR_OK);
  CHECK(same(y, expected, steps * outputs));
  fr_pool_export(pool, c, again, size);

  /* The same in one request. */
  memset(y, 0, sizeof y);
  request = request_of(a, x + half * inputs, half, y + half * outputs, &to);
  request.state = state;
  request.state_size = size;
  request.state_out = state;
  request.state_out_size = size;
  CHECK(fr_pool_submit(pool, &request, 1, 0) == FR_OK);
  CHECK(fr_pool_step(pool, a, NULL, 0, NULL) == FR_OK);
  CHECK(to.calls == 1 && memcmp(state, again, size) == 0);
  CHECK(same(y + half * outputs, expected + half * outputs, half * outputs));

  memcpy(damaged, state, size);
  damaged[size / 2] ^= 1;
  CHECK_FAILS(fr_pool_import(pool, a, damaged, size), FR_INVALID_ARGUMENT,
              "state: the bytes are damaged");
  CHECK_FAILS(fr_pool_import(pool, a, state, size - 1), FR_INVALID_ARGUMENT, "state: ");
  CHECK_FAILS(fr_pool_import(pool, a, "abc", 3), FR_INVALID_ARGUMENT, "state: expected the bytes");
  CHECK_FAILS(fr_pool_open(pool, damaged, size, &c), FR_INVALID_ARGUMENT, "state: ");
  CHECK(c == 0);
  CHECK_FAILS(fr_pool_export(pool, a, again, size - 1), FR_INVALID_ARGUMENT, "state_out_size: ");
  CHECK_FAILS(fr_pool_export(pool, a, NULL, size), FR_INVALID_ARGUMENT, "state: ");
  CHECK_FAILS(fr_pool_import(pool, a, NULL, size), FR_INVALID_ARGUMENT, "state: ");
  fr_pool_free(pool);
}

/* Two sessions are open, and nobody wants to wait less than an hour for the second: so the first one's
 * steps stay where they are. */
static void test_queues(const fr_model* model) {
  fr_pool* pool = create(model, 2, 2, 3600);
  const fr_session a = open_session(pool), b = open_session(pool);
  fr_session none = 1;
  fr_pool_stats stats;
  told first = {0, FR_OK}, second = {0, FR_OK}, third = {0, FR_OK};
  float y[steps * outputs];
  fr_pool_request request = request_of(a, x, 2, y, &first), two[2];
  CHECK_FAILS(fr_pool_open(pool, NULL, 0, &none), FR_FULL, "all sessions are open");
  CHECK(none == 0);
  CHECK(fr_pool_submit(pool, &request, 1, 0) == FR_OK);
  CHECK_FAILS(fr_pool_submit(pool, &request, 1, 0), FR_FULL, "its queue is full");
  CHECK_FAILS(fr_pool_submit(pool, &request, 1, 1e-3), FR_FULL, "its queue is full");
  two[0] = request_of(b, x, 1, y + 2 * outputs, &second);
  two[1] = request;
  CHECK_FAILS(fr_pool_submit(pool, two, 2, 0), FR_FULL, "its queue is full"); /* none of them */
  stats.struct_size = sizeof stats;
  CHECK(fr_pool_get_stats(pool, &stats) == FR_OK);
  CHECK(stats.sessions == 2 && stats.pending_steps == 2 && stats.steps == 0);
  CHECK(first.calls == 0);
  CHECK(fr_pool_close(pool, a) == FR_OK);
  CHECK(first.calls == 1 && first.status == FR_CANCELLED);
  CHECK_FAILS(fr_pool_close(pool, a), FR_UNKNOWN_SESSION, "session: expected an open one");
  CHECK_FAILS(fr_pool_submit(pool, &request, 1, 0), FR_UNKNOWN_SESSION, "session: ");

  open_session(pool);
  CHECK(fr_pool_submit(pool, &two[0], 1, 0) == FR_OK);
  CHECK(second.calls == 0);
  CHECK(fr_pool_shut_down(pool, 1) == FR_OK); /* does what is there */
  CHECK(second.calls == 1 && second.status == FR_OK);
  CHECK(same(y + 2 * outputs, expected, outputs));
  two[0].context = &third;
  CHECK_FAILS(fr_pool_submit(pool, &two[0], 1, 0), FR_SHUT_DOWN, "pool: ");
  CHECK_FAILS(fr_pool_open(pool, NULL, 0, &none), FR_SHUT_DOWN, "pool: ");
  CHECK_FAILS(fr_pool_step(pool, b, x, 1, y), FR_SHUT_DOWN, "pool: ");
  CHECK(third.calls == 0);
  CHECK(fr_pool_shut_down(pool, 0) == FR_OK);
  CHECK(fr_pool_close(pool, b) == FR_OK);
  fr_pool_free(pool);

  pool = create(model, 2, 2, 3600);
  request.session = open_session(pool);
  open_session(pool);
  first.calls = 0;
  CHECK(fr_pool_submit(pool, &request, 1, 0) == FR_OK);
  fr_pool_free(pool);
  CHECK(first.calls == 1 && first.status == FR_CANCELLED);
}

static void test_options(const fr_model* model) {
  const fr_pool_options zeros = {sizeof zeros, 0, 0, 0, 0, 0, 0};
  fr_pool_options options = zeros;
  fr_pool* pool = NULL;
#define REFUSED(field, value, status)                                    \
  options = zeros;                                                       \
  options.field = value;                                                 \
  CHECK_FAILS(fr_pool_create(model, &options, &pool), (status), #field); \
  CHECK(!pool)
  REFUSED(capacity, ((size_t)1 << 24) + 1, FR_INVALID_ARGUMENT);
  REFUSED(threads, 1025, FR_INVALID_ARGUMENT);
  REFUSED(max_batch, 65, FR_INVALID_ARGUMENT);
  REFUSED(max_pending, (size_t)-1, FR_INVALID_ARGUMENT);
  REFUSED(max_delay, -1, FR_INVALID_ARGUMENT);
  REFUSED(max_delay, NAN, FR_INVALID_ARGUMENT);
  REFUSED(idle_timeout, -1e-9, FR_INVALID_ARGUMENT);
  REFUSED(struct_size, 0, FR_INVALID_ARGUMENT);
#undef REFUSED
  options = zeros;
  options.struct_size = offsetof(fr_pool_options, threads); /* an older version */
  options.capacity = 1;
  options.max_delay = -1; /* not read */
  CHECK(fr_pool_create(model, &options, &pool) == FR_OK);
  open_session(pool);
  CHECK(fr_pool_open(pool, NULL, 0, &(fr_session){0}) == FR_FULL);
  fr_pool_free(pool);
  options = zeros;
  options.max_delay = options.idle_timeout = HUGE_VAL;
  CHECK(fr_pool_create(model, &options, &pool) == FR_OK);
  fr_pool_free(pool);
  CHECK_FAILS(fr_pool_create(model, NULL, NULL), FR_INVALID_ARGUMENT, "pool: ");
  CHECK_FAILS(fr_pool_create(NULL, NULL, &pool), FR_INVALID_ARGUMENT, "model: ");
}

static void test_requests(const fr_model* model) {
  fr_pool* pool = create(model, 2, 0, 0);
  const fr_session session = open_session(pool);
  float y[steps * outputs];
  const int32_t wrong[] = {0, inputs};
  told to = {0, FR_OK};
  const fr_pool_request good = request_of(session, x, steps, y, &to);
  fr_pool_request r = good, two[2];
  fr_pool_stats stats;
#define REFUSED(change, status, part) \
  r = good;                           \
  change;                             \
  CHECK_FAILS(fr_pool_submit(pool, &r, 1, 0), (status), part)
  REFUSED(r.session = 0, FR_UNKNOWN_SESSION, "session: ");
  REFUSED(r.session = session + 1, FR_UNKNOWN_SESSION, "session: ");
  REFUSED(r.session = (fr_session)-1, FR_UNKNOWN_SESSION, "session: ");
  REFUSED(r.x = NULL, FR_INVALID_ARGUMENT, "x: ");
  REFUSED(r.y = NULL, FR_INVALID_ARGUMENT, "y: ");
  REFUSED(r.y = x, FR_INVALID_ARGUMENT, "y: ");
  REFUSED(r.tokens = tokens, FR_INVALID_ARGUMENT, "x, tokens: ");
  REFUSED((r.x = NULL, r.tokens = wrong, r.steps = 2), FR_INVALID_ARGUMENT, "tokens: ");
  REFUSED(r.steps = (size_t)-1, FR_INVALID_ARGUMENT, "steps: ");
  REFUSED(r.reset = 2, FR_INVALID_ARGUMENT, "reset: ");
  REFUSED((r.state = "abc", r.state_size = 3), FR_INVALID_ARGUMENT, "state: ");
  REFUSED((r.state_out = y, r.state_out_size = 1), FR_INVALID_ARGUMENT, "state_out_size: ");
  REFUSED(r.struct_size = 4, FR_INVALID_ARGUMENT, "requests: ");
#undef REFUSED
  two[0] = two[1] = good;
  two[1].struct_size -= 8;
  CHECK_FAILS(fr_pool_submit(pool, two, 2, 0), FR_INVALID_ARGUMENT, "got 96 at 1");
  CHECK_FAILS(fr_pool_submit(pool, NULL, 1, 0), FR_INVALID_ARGUMENT, "requests: ");
  CHECK_FAILS(fr_pool_submit(NULL, &good, 1, 0), FR_INVALID_ARGUMENT, "pool: ");
  CHECK_FAILS(fr_pool_submit(pool, &good, 1, -1), FR_INVALID_ARGUMENT, "timeout: ");
  CHECK_FAILS(fr_pool_submit(pool, &good, 1, NAN), FR_INVALID_ARGUMENT, "timeout: ");
  CHECK_FAILS(fr_pool_step(NULL, session, x, 1, y), FR_INVALID_ARGUMENT, "pool: ");
  CHECK_FAILS(fr_pool_open(pool, NULL, 0, NULL), FR_INVALID_ARGUMENT, "session: ");
  CHECK_FAILS(fr_pool_close(NULL, 1), FR_INVALID_ARGUMENT, "pool: ");
  CHECK_FAILS(fr_pool_get_stats(pool, NULL), FR_INVALID_ARGUMENT, "stats: ");
  CHECK_FAILS(fr_pool_shut_down(NULL, 0), FR_INVALID_ARGUMENT, "pool: ");
  fr_pool_free(NULL);
  CHECK(to.calls == 0);

  /* Stats of an older version, of which nothing else is written. */
  memset(&stats, 7, sizeof stats);
  stats.struct_size = offsetof(fr_pool_stats, pending_steps);
  CHECK(fr_pool_get_stats(pool, &stats) == FR_OK);
  CHECK(stats.sessions == 1 && stats.pending_steps != 0);
  stats.struct_size = 1;
  CHECK_FAILS(fr_pool_get_stats(pool, &stats), FR_INVALID_ARGUMENT, "stats: ");
  CHECK(fr_pool_step(pool, session, x, steps, y) == FR_OK);
  CHECK(same(y, expected, steps * outputs));
  fr_pool_free(pool);
}

int main(void) {
  small_model file;
  fr_model* model = NULL;
  small_model_make(&file);
  CHECK(fr_model_load_memory(file.bytes, sizeof file.bytes, NULL, &model) == FR_OK);
  if (!model) return 1;
  make_input(model);
  test_steps(model);
  test_submit(model);
  test_states(model);
  test_queues(model);
  test_options(model);
  test_requests(model);
  fr_model_free(model);
  printf("%d failures\n", failures);
  return failures > 0;
}
