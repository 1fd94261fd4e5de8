/* fastrnn for programs without Python: recurrent networks, streamed step by step. C99.
 *
 *   fr_model *model;
 *   fr_stream *stream;
 *   if (fr_model_load("model.safetensors", NULL, &model)) die(fr_last_error());
 *   if (fr_stream_create(model, NULL, &stream)) die(fr_last_error());
 *   for (;;) fr_stream_step(stream, x, y);    (x: input_size floats, y: output_size floats)
 *
 * A model is a file that fastrnn.save (Python) wrote. It is immutable once loaded: any number of
 * threads may use it at once, each with streams of its own. A stream holds the state of one sequence
 * and is used by one thread at a time.
 *
 * Real time: fr_stream_step, _process, _reset, _get_state, _set_state, fr_streams_step and their
 * variants for tokens allocate nothing, take no lock, make no system call and throw nothing.
 *
 * Values: float32, the same bits as in Python, on every processor (README.md, "same bits"), but for
 * FR_PRECISION_BF16_DOT.
 *
 * Errors: every function that can fail returns an fr_status, 0 where it did what it says. Then
 * fr_last_error() names the argument, what was expected and what came. Nothing is
 * written half (but y, where memory runs out in fr_model_run).
 *
 * Compatibility: structs begin with their own size, so that later versions may add fields at their
 * end: a program built against this header runs with every later library of the same
 * FR_ABI_VERSION. */
#ifndef FASTRNN_FASTRNN_H
#define FASTRNN_FASTRNN_H

#include <stddef.h>
#include <stdint.h>

#if defined(FASTRNN_BUILDING) && (defined(__GNUC__) || defined(__clang__))
#define FR_API __attribute__((visibility("default")))
#else
#define FR_API
#endif

#define FR_ABI_VERSION 1

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fr_status {
  FR_OK = 0,
  FR_INVALID_ARGUMENT = 1, /* null, a wrong size, an unknown token, ... */
  FR_OUT_OF_MEMORY = 2,
  FR_IO_ERROR = 3,        /* the file cannot be opened or read */
  FR_INVALID_MODEL = 4,   /* the file is damaged, or none that fastrnn.save wrote */
  FR_UNSUPPORTED = 5,     /* a sound model of which this library cannot do what was asked */
  FR_INTERNAL_ERROR = 6,  /* a defect of this library */
  FR_FULL = 7,            /* of pools: no room for a session, or for more steps of one */
  FR_UNKNOWN_SESSION = 8, /* closed, expired, or never opened */
  FR_CANCELLED = 9,       /* the session or the pool was closed before all steps were done */
  FR_SHUT_DOWN = 10       /* the pool takes no more */
} fr_status;

/* What the calling thread's last failed call has to say, in English; "" before the first one. Valid
 * until that thread's next failed call. */
FR_API const char* fr_last_error(void);
FR_API const char* fr_status_name(fr_status status); /* "FR_OK", ... */
FR_API const char* fr_version(void);                 /* "0.1.0" */
FR_API int fr_abi_version(void);                     /* FR_ABI_VERSION of the library */
/* The instruction set in use: "avx512", "avx2", "neon" or "generic". The environment variable
 * FASTRNN_ISA asks for one; null (and an error) where that cannot be had. */
FR_API const char* fr_isa(void);

/* --- models ------------------------------------------------------------------------------------ */

typedef struct fr_model fr_model;

/* How the matrices of recurrent layers are held; all else is float32. */
typedef enum fr_precision {
  FR_PRECISION_AS_STORED = 0, /* as options: as the file has them */
  FR_PRECISION_FLOAT32 = 1,
  FR_PRECISION_BF16 = 2,     /* bfloat16 weights, float32 arithmetic */
  FR_PRECISION_BF16_DOT = 3, /* bfloat16 weights and activations where the processor multiplies
                                them (AVX512-BF16), else as FR_PRECISION_BF16: bits may differ */
  FR_PRECISION_INT8 = 4      /* int8 weights, a scale per unit; dynamically quantised activations */
} fr_precision;

typedef struct fr_model_options {
  size_t struct_size;     /* sizeof(fr_model_options) */
  fr_precision precision; /* smaller than what is stored: weights are quantised while loading.
                             FR_UNSUPPORTED where the file holds smaller ones. */
} fr_model_options;

/* options null: as stored. On failure *model is null. The file, or the memory, is not needed once
 * these return. A file of more than 16 MiB is mapped while it loads: meanwhile another program must
 * not shorten it (SIGBUS), but may replace it by renaming, as fastrnn.save does. */
FR_API fr_status fr_model_load(const char* path, const fr_model_options* options, fr_model** model);
FR_API fr_status fr_model_load_memory(const void* data, size_t size,
                                      const fr_model_options* options, fr_model** model);
/* Null is fine. Streams that were made of the model stay usable. */
FR_API void fr_model_free(fr_model* model);

typedef struct fr_model_info {
  size_t struct_size; /* sizeof(fr_model_info), set by the caller */
  size_t input_size;  /* floats of a step's input; the number of tokens where takes_tokens */
  size_t output_size; /* floats of a step's output */
  size_t state_size;  /* floats of a stream's state; 0 where the model cannot be streamed */
  size_t memory;      /* bytes that the model holds */
  int takes_tokens;   /* 1: the first layer is an embedding, and inputs must be tokens; else 0 */
  int streams;        /* 1: may be streamed. 0: a layer needs whole sequences (bidirectional) */
  fr_precision precision; /* of its recurrent layers; FR_PRECISION_AS_STORED where they
                             differ, FR_PRECISION_FLOAT32 where there are none */
} fr_model_info;

/* Fills as many fields as struct_size has room for. */
FR_API fr_status fr_model_get_info(const fr_model* model, fr_model_info* info);
/* The metadata given to fastrnn.save, a JSON object as text; lives as long as the model. Null for
 * null. */
FR_API const char* fr_model_metadata(const fr_model* model);

/* Whole sequences: x (batch, steps, input_size), y (batch, steps, output_size), each contiguous.
 * lengths (batch), or null where all are `steps`: what lies past a sequence's length is not read,
 * and zeros in y. Runs on the calling thread and allocates; also for models that cannot be
 * streamed. A model with LastStep gives all steps: take step length - 1 of each row. Outputs of a
 * layer that goes backwards stand in the order of processing. */
FR_API fr_status fr_model_run(const fr_model* model, const float* x, size_t batch, size_t steps,
                              const size_t* lengths, float* y);
FR_API fr_status fr_model_run_tokens(const fr_model* model, const int32_t* tokens, size_t batch,
                                     size_t steps, const size_t* lengths, float* y);

/* --- streams ----------------------------------------------------------------------------------- */

typedef struct fr_stream fr_stream;

typedef struct fr_stream_options {
  size_t struct_size; /* sizeof(fr_stream_options) */
  size_t
      block_steps; /* fr_stream_process works on so many steps at a time: more is faster and takes
                         more memory; at most 64. 0: what suits the model */
} fr_stream_options;

/* options null: all defaults. The stream begins with the model's initial state. On failure *stream is
 * null. */
FR_API fr_status fr_stream_create(const fr_model* model, const fr_stream_options* options,
                                  fr_stream** stream);
FR_API void fr_stream_free(fr_stream* stream); /* null is fine */

/* One step: x (input_size) to y (output_size). x and y may be the same memory. */
FR_API fr_status fr_stream_step(fr_stream* stream, const float* x, float* y);
/* The same for a token, of models that take tokens or begin with a recurrent or linear layer, for
 * which it stands for the one-hot vector. */
FR_API fr_status fr_stream_step_token(fr_stream* stream, int32_t token, float* y);

/* A block of any number of steps, x (steps, input_size), y (steps, output_size): the same bits as so
 * many single ones, in less time where cells are large. x and y must not overlap. */
FR_API fr_status fr_stream_process(fr_stream* stream, const float* x, size_t steps, float* y);
FR_API fr_status fr_stream_process_tokens(fr_stream* stream, const int32_t* tokens, size_t steps,
                                          float* y);

/* One step of each of `count` streams of one model, no stream twice: x (count, input_size), y (count,
 * output_size), not overlapping. The same bits as so many single calls, in less time where weights are
 * large. */
FR_API fr_status fr_streams_step(fr_stream* const* streams, size_t count, const float* x, float* y);
FR_API fr_status fr_streams_step_tokens(fr_stream* const* streams, size_t count,
                                        const int32_t* tokens, float* y);

FR_API fr_status fr_stream_reset(fr_stream* stream); /* back to the initial state */
/* The state, to go on elsewhere: `count` must be the model's state_size. The order is the same on all
 * processors: recurrent layers from the first to the last; of each h, then c where it has one. */
FR_API fr_status fr_stream_get_state(const fr_stream* stream, float* state, size_t count);
FR_API fr_status fr_stream_set_state(fr_stream* stream, const float* state, size_t count);

/* --- pools -------------------------------------------------------------------------------------- */

/* Many sessions of one model, each with a state of its own, stepped together by threads of the pool:
 * whatever is pending is gathered into one pass, a step of each session. A session gets the bits of a
 * stream alone, whoever shares the pass; its requests are done in the order in which they were
 * submitted. All functions but fr_pool_free may be called by any threads at once. They take locks; what
 * fastrnn.h says of real time does not hold for them. */
typedef struct fr_pool fr_pool;
typedef uint64_t fr_session; /* never given twice by a pool, and never 0 */

typedef struct fr_pool_options {
  size_t struct_size; /* sizeof(fr_pool_options) */
  size_t capacity;    /* sessions that can be open at once, at most 2^24; 0: 1024 */
  size_t threads;     /* of the pool, at most 1024; 0: one for each processor */
  size_t max_batch;   /* sessions of a pass, at most 64; 0: 64 */
  size_t max_pending; /* steps of a session that may wait; what is submitted at once may have more,
                          where none waits. 0: 1024 */
  double max_delay; /* seconds that steps may wait for those of other sessions, while a pass is not
                          full. 0: a thread takes what is there; while all are busy, passes fill */
  double idle_timeout; /* seconds after which a session that nobody used is closed; 0: never */
} fr_pool_options;

/* options null: all defaults. FR_UNSUPPORTED where the model cannot be streamed. The pool keeps the
 * model. On failure *pool is null. */
FR_API fr_status fr_pool_create(const fr_model* model, const fr_pool_options* options,
                                fr_pool** pool);
/* As fr_pool_shut_down(pool, 0), and no other call may be under way. Null is fine. */
FR_API void fr_pool_free(fr_pool* pool);

/* The session begins with the model's initial state, where state is null, or with one that
 * fr_pool_export gave. FR_FULL where capacity sessions are open. On failure *session is 0. */
FR_API fr_status fr_pool_open(fr_pool* pool, const void* state, size_t state_size,
                              fr_session* session);
/* Requests that wait are cancelled; of one that is being worked on a part may still be done. The place
 * is free for another session when that has ended. */
FR_API fr_status fr_pool_close(fr_pool* pool, fr_session session);

/* Steps of a session. The struct is copied; the arrays must last until done() is called. */
typedef struct fr_pool_request {
  size_t struct_size; /* sizeof(fr_pool_request) */
  fr_session session;
  size_t reset;          /* 1: before the steps, back to the initial state; else 0 */
  const void* state;     /* not null: before the steps, to this state (of fr_pool_export; copied) */
  size_t state_size;     /* its bytes */
  const float* x;        /* (steps, input_size), or null */
  const int32_t* tokens; /* (steps), or null */
  size_t steps;          /* 0: only a reset, or only the state */
  float* y;              /* (steps, output_size), not overlapping the input */
  void* state_out;       /* not null: where the state after the steps is written, as fr_pool_export
                            does it */
  size_t state_out_size; /* its bytes: fr_pool_state_bytes */
  /* Called once, with FR_OK or FR_CANCELLED, by a thread of the pool, or by that which closes the
   * session or ends the pool. It should return soon, as others wait. It may submit and close; it must not
   * wait for the pool: no submitting with a timeout, no fr_pool_step, _export, _import, _shut_down
   * or _free. Null: nobody is told; the arrays must last until a later request of the session is done. */
  void (*done)(void* context, fr_status status);
  void* context;
} fr_pool_request;

/* Hands in an array of requests, all of them or none, and returns. Of a session there may be several.
 * timeout: seconds to wait for room where a queue is full; 0: do not wait. FR_FULL where there was none
 * in time. After a failure done() is not called. */
FR_API fr_status fr_pool_submit(fr_pool* pool, const fr_pool_request* requests, size_t count,
                                double timeout);

/* Submits steps of a session, and waits until they are done. */
FR_API fr_status fr_pool_step(fr_pool* pool, fr_session session, const float* x, size_t steps,
                              float* y);
FR_API fr_status fr_pool_step_tokens(fr_pool* pool, fr_session session, const int32_t* tokens,
                                     size_t steps, float* y);

/* A session's state after what was submitted before, as bytes that have a version and a checksum:
 * fr_pool_open, fr_pool_import and Python's StreamPool read them, on any machine, in pools of the same
 * model file and precision. size must be fr_pool_state_bytes(pool). Both wait for their turn. */
FR_API fr_status fr_pool_export(fr_pool* pool, fr_session session, void* state, size_t size);
FR_API fr_status fr_pool_import(fr_pool* pool, fr_session session, const void* state, size_t size);
FR_API size_t fr_pool_state_bytes(const fr_pool* pool); /* 0 for null */

typedef struct fr_pool_stats {
  size_t struct_size;      /* sizeof(fr_pool_stats), set by the caller */
  size_t sessions;         /* open */
  size_t pending_steps;    /* submitted, not done */
  uint64_t steps;          /* done since the pool was made */
  uint64_t batches;        /* passes in which they were done */
  uint64_t expired;        /* sessions closed as nobody used them */
  uint64_t batch_sizes[7]; /* passes of 1, 2, 3-4, 5-8, 9-16, 17-32 and 33-64 sessions */
} fr_pool_stats;

/* Fills as many fields as struct_size has room for. */
FR_API fr_status fr_pool_get_stats(fr_pool* pool, fr_pool_stats* stats);

/* Nothing is accepted from now on. drain 1: what was accepted is done first; 0: it is cancelled. Returns
 * when that has happened, and the threads of the pool have ended. Sessions can still be closed. */
FR_API fr_status fr_pool_shut_down(fr_pool* pool, int drain);

#ifdef __cplusplus
}
#endif
#endif
