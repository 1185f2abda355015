/*
 * Functions of the C core; include drnn.h, which brings the types. The Python binding reads this file too.
 */

/* Compute the arena's layout. Returns 0, or DRNN_ERR_MODEL when the model is not supported. */
int drnn_plan(const drnn_model_t *model, drnn_plan_t *plan);

/*
 * Bytes of arena that this model takes: to train it, at worst-case events where it has no budget of them, or to run it
 * where it is built for inference only. 0 when the model is not supported.
 */
size_t drnn_arena_size(const drnn_model_t *model);

/*
 * Take an arena (8-byte aligned, at least drnn_arena_size bytes), copy the model's weights there and take the model's
 * learning rate, clip and thresholds; beta, seed and step number start at 0. Errors: DRNN_ERR_MODEL, DRNN_ERR_ARENA.
 */
int drnn_init(drnn_t *net, const drnn_model_t *model, void *arena, size_t arena_bytes);

/* Go back to the weights of the model in flash; the configuration stays. Drops an unfinished sample. */
int drnn_reset_weights(drnn_t *net);

/*
 * Set learning rate, clip, beta, thresholds, seed and step number, also during a sample, which keeps the thresholds that it
 * began with. Error: DRNN_ERR_RANGE.
 */
int drnn_configure(drnn_t *net, const drnn_config_t *config);

/* Start a sample: h = c = 0, v_hat = 0, M = b in every layer. Drops an unfinished one. */
int drnn_begin(drnn_t *net);

/* Drop an unfinished sample, if there is one. */
int drnn_drop(drnn_t *net);

/*
 * One frame x [n_in], int16 in the first layer's input format, |x| <= DRNN_V_MAX; in each layer: delta encoding,
 * W.Delta over the active columns, the cell. Returns the number of frames so far. Errors: DRNN_ERR_STATE,
 * DRNN_ERR_TOO_LONG, DRNN_ERR_RANGE (the sample is then as before the call); DRNN_ERR_EVENTS (the sample is dropped, and
 * counted in `n_refused`).
 */
int drnn_push(drnn_t *net, const int16_t *x);

/*
 * The class of the frame just pushed, of a model with the readout DRNN_FRAMES. Computes the frame's logits and what they
 * add to loss and gradient. Frames may go without one; each takes one at most.
 * Errors (nothing changed): DRNN_ERR_READOUT, DRNN_ERR_STATE, DRNN_ERR_EMPTY, DRNN_ERR_LABEL.
 */
int drnn_target_class(drnn_t *net, uint16_t label);

/*
 * The same for DRNN_REGRESSION: the values [n_outputs] that the frame's outputs should have, Q16,
 * |value| <= DRNN_TARGET_MAX. Errors (nothing changed): as above, and DRNN_ERR_RANGE.
 */
int drnn_target_values(drnn_t *net, const int32_t *values);

/*
 * Outputs at the frame just pushed, and the loss over the targets so far; the sample may go on.
 * Errors: DRNN_ERR_STATE, DRNN_ERR_EMPTY.
 */
int drnn_infer(drnn_t *net, drnn_result_t *result);

/*
 * End the sample by one step of SGD on the mean loss of the frames that were given a target, and
 * beta * sum |Delta h| over all layers: backward through time, clip, update. The history is consumed.
 * Errors (nothing changed): DRNN_ERR_INFERENCE, DRNN_ERR_READOUT, DRNN_ERR_STATE, DRNN_ERR_EMPTY.
 */
int drnn_learn(drnn_t *net, drnn_result_t *result);

/*
 * The same for the readout DRNN_LAST: the label is the last frame's target.
 * Errors (nothing changed): DRNN_ERR_INFERENCE, DRNN_ERR_READOUT, DRNN_ERR_STATE, DRNN_ERR_EMPTY, DRNN_ERR_LABEL.
 */
int drnn_train(drnn_t *net, uint16_t label, drnn_result_t *result);

/*
 * Which exemplar drnn_replay would take now: a function of seed and step number alone, each as likely as any other.
 * Error: DRNN_ERR_REPLAY.
 */
int drnn_replay_next(const drnn_t *net);

/*
 * Begin a sample, push the frames of the exemplar drnn_replay_next with its class as their target, and end it by one
 * step of SGD: what drnn_begin, drnn_push and drnn_train or drnn_learn do. Drops an unfinished sample. Returns the
 * exemplar's number. Errors: DRNN_ERR_REPLAY, DRNN_ERR_INFERENCE (nothing changed); DRNN_ERR_EVENTS, as drnn_push.
 */
int drnn_replay(drnn_t *net, drnn_result_t *result);

/*
 * Find a tensor in the arena. Any value may be written where `writable` is set, but between samples only: M holds the
 * products of the weights so far, and no longer equals b + W.v_hat when they change. Error: DRNN_ERR_TENSOR.
 */
int drnn_tensor(const drnn_t *net, int id, drnn_tensor_t *tensor);

/*
 * Describe a model file (drnn_image.h) of n bytes, 8-byte aligned, where it lies: `model` points into it, to `layers`
 * [DRNN_MAX_LAYERS] and, where there are exemplars, to `replay`. The bytes must stay as they are while the model is used.
 * Whether the dimensions, formats and exemplars are supported, drnn_init tells. Errors: DRNN_ERR_IMAGE, DRNN_ERR_VERSION,
 * DRNN_ERR_MODEL.
 */
int drnn_image_model(const void *bytes, size_t n, drnn_model_t *model, drnn_layer_t *layers, drnn_replay_t *replay);

/* CRC-32 as zlib has it: of what gave `crc`, at first 0, and n bytes more. */
uint32_t drnn_crc32(uint32_t crc, const void *bytes, size_t n);

/* What an error code means, for people. Never NULL. */
const char *drnn_error_text(int error);
