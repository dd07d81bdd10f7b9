"""Mistakes of native trainings: masks, orders, schedules, and what a look between epochs leaves."""

from __future__ import annotations

from mutants.mutant import Mutant

MUTANTS = (
    Mutant(
        "causal_only_without_native_dropout",
        "With masks that the engine draws, attention sees later positions.",
        "gradient/future-causal_attention-dropout",
        "attention",
        "        if layer.causal:",
        ("        if layer.causal and not (training and self.mask is None and layer.drop_rate):"),
    ),
    Mutant(
        "torch_causal_only_without_native_dropout",
        "With masks that torch draws, attention sees later positions.",
        "gradient/future-causal_attention-dropout",
        "attention",
        "dropout_p=rate, is_causal=causal",
        "dropout_p=rate, is_causal=causal and not rate",
        package="torch",
    ),
    Mutant(
        "attention_draws_one_mask",
        "Natively, attention draws the same mask in every step.",
        "state/multi_head_attention-dropout-in-fit",
        "attention",
        "        kept = self.scales(",
        (
            "        if self.mask is None and training and self.generators:\n"
            '            if getattr(self, "_of", None) is not self.generators:\n'
            "                self._of, self._saved = self.generators, "
            "[g.bit_generator.state for g in self.generators]\n"
            "            for g, s in zip(self.generators, self._saved):\n"
            "                g.bit_generator.state = s\n"
            "        kept = self.scales("
        ),
    ),
    Mutant(
        "only_plain_attention_drops_natively",
        "Natively, causal attention and attention to a context drop nothing.",
        "state/causal_attention-dropout-in-fit",
        "attention",
        "        kept = self.scales(n, scores.dtype, training)",
        (
            "        drops = self.mask is not None or not (layer.causal or layer.context)\n"
            "        kept = self.scales(n, scores.dtype, training and drops)"
        ),
    ),
    Mutant(
        "values_by_weights_without_native_mask",
        "Natively, the gradient of the values goes through weights that were dropped.",
        "state/mask-of-the-gradient-multi_head_attention",
        "attention",
        "        d_value = self.used.swapaxes(-1, -2) @ d_out",
        (
            "        used = self.used if self.mask is not None else self.weights\n"
            "        d_value = used.swapaxes(-1, -2) @ d_out"
        ),
    ),
    Mutant(
        "parts_draw_the_masks_of_the_first",
        "Natively, all parts of a batch have the masks of the first.",
        "state/dropout-in-fit",
        "training",
        ("        own = _part(masks, part)\n        loss, right"),
        (
            "        own = _part(masks, part)\n"
            "        if masks is None:\n"
            "            every = [g for rule in net.dropouts.values() for g in "
            "rule.generators]\n"
            "            if part.start == 0:\n"
            "                saved = [g.bit_generator.state for g in every]\n"
            "            for g, s in zip(every, saved):\n"
            "                g.bit_generator.state = s\n"
            "        loss, right"
        ),
    ),
    Mutant(
        "shards_draw_equal_masks",
        "The shards of a large batch draw the same masks.",
        "state/dropout-in-large-fit",
        "network",
        "stream = (self.shard,) if self.shard else ()",
        "stream = ()",
    ),
    Mutant(
        "masks_seeded_by_the_first_fit",
        "Natively, a second training goes on with the masks of the first.",
        "determinism/second-fit",
        "training",
        "    net.seed([plan.seed for plan in plans])",
        (
            "    if plans[0].parity or not getattr(net, 'seeded', False):\n"
            "        net.seed([plan.seed for plan in plans])\n"
            "    net.seeded = not plans[0].parity"
        ),
    ),
    Mutant(
        "prediction_draws_masks",
        "A prediction advances the generator of the masks.",
        "determinism/looking",
        "dropout",
        (
            "        if not training or (self.mask is None and rate == 0.0):\n"
            "            return None"
        ),
        (
            "        if not training or (self.mask is None and rate == 0.0):\n"
            "            if self.mask is None:\n"
            "                for own in self.generators:\n"
            "                    own.random((*spec.shape, n), dtype=np.float32)\n"
            "            return None"
        ),
    ),
    Mutant(
        "torch_draws_from_the_global_generator",
        "The global generator of torch is seeded, and not restored.",
        "determinism/alone",
        "random",
        (
            "        with torch.random.fork_rng(devices=self.devices):\n"
            "            if self.states:\n"
            "                cpu, *cuda = self.states\n"
            "                torch.set_rng_state(cpu)\n"
            "                for device, state in zip(self.devices, cuda, strict=True):\n"
            "                    torch.cuda.set_rng_state(state, device)\n"
            "            else:\n"
            "                torch.manual_seed(self.seed)\n"
            "            try:\n"
            "                yield\n"
            "            finally:\n"
            "                cuda = [torch.cuda.get_rng_state(device) for device in "
            "self.devices]\n"
            "                self.states = [torch.get_rng_state(), *cuda]"
        ),
        (
            "        if not self.states:\n"
            "            torch.manual_seed(self.seed)\n"
            "            self.states = [torch.get_rng_state()]\n"
            "        yield"
        ),
        package="torch",
    ),
    Mutant(
        "torch_settings_left_by_fit",
        "A training changes torch's threads and its default dtype.",
        "determinism/alone",
        "engine",
        "        self.check(recipe)",
        (
            "        self.check(recipe)\n"
            "        torch.set_num_threads(1)\n"
            "        torch.set_default_dtype(self.placement.dtype)"
        ),
        package="torch",
    ),
    Mutant(
        "average_lost_when_closed",
        "A training that is closed leaves the weights in place of their averages.",
        "state/average-between-epochs",
        "training",
        ("    finally:\n        trainer.restore()"),
        (
            "    except GeneratorExit:\n"
            "        trainer.update.resume()\n"
            "        raise\n"
            "    finally:\n"
            "        trainer.restore()"
        ),
    ),
    Mutant(
        "torch_clips_scaled_gradients_natively",
        "Natively, gradients are clipped before the loss scale is divided out.",
        "trajectory/native-loss_scale",
        "training",
        (
            "        finite = optimizer.unscale()\n"
            "        if recipe.clip is not None:\n"
            "            CLIPS[type(recipe.clip)](recipe.clip, parameters)"
        ),
        (
            "        early = not plan.parity and recipe.clip is not None\n"
            "        if early:\n"
            "            CLIPS[type(recipe.clip)](recipe.clip, parameters)\n"
            "        finite = optimizer.unscale()\n"
            "        if recipe.clip is not None and not early:\n"
            "            CLIPS[type(recipe.clip)](recipe.clip, parameters)"
        ),
        package="torch",
    ),
    Mutant(
        "torch_one_cycle_moves_the_momentum",
        "Natively, the one-cycle schedule moves the momentum too.",
        "schedule/one_cycle",
        "training",
        "        optimizer.step(rate)",
        (
            "        from dlsys_bench.spec.schedules import OneCycle\n"
            "        if not plan.parity and isinstance(recipe.schedule, OneCycle) and "
            'getattr(recipe.optimizer, "momentum", 0):\n'
            "            s = recipe.schedule\n"
            "            low, high = s.maximum / s.start_divisor, s.maximum\n"
            "            for group in optimizer.optimizer.param_groups:\n"
            '                group["momentum"] = 0.95 - 0.1 * min(max((rate - low) / '
            "(high - low), 0.0), 1.0)\n"
            "        optimizer.step(rate)"
        ),
        package="torch",
    ),
    Mutant(
        "torch_cosine_rises_again",
        "Natively, a cosine decay rises again after its end.",
        "schedule/cosine_decay-final",
        "training",
        "        ended = steps.epoch(order, epoch.sizes, epoch.rates, masks)",
        (
            "        rates = epoch.rates\n"
            "        from dlsys_bench.spec.schedules import CosineDecay\n"
            "        import math\n"
            "        if not plan.parity and isinstance(recipe.schedule, CosineDecay):\n"
            "            c = recipe.schedule\n"
            "            rates = [c.final + (c.base - c.final) * (1 + math.cos(math.pi * "
            "(epoch.first + i) / c.steps)) / 2 for i in range(len(rates))]\n"
            "        ended = steps.epoch(order, epoch.sizes, rates, masks)"
        ),
        package="torch",
    ),
    Mutant(
        "order_of_seed_plus_epoch",
        "Natively, the order of an epoch is that of the next seed one epoch before.",
        "trajectory/order",
        "training",
        "plan.order(epoch, samples) for plan in plans",
        (
            "(plan.order(epoch, samples) if plan.parity else Plan(plan.seed + "
            "epoch).order(0, samples)) for plan in plans"
        ),
    ),
    Mutant(
        "order_by_a_buffer_of_1024",
        "Natively, samples are shuffled in a buffer of 1,024.",
        "trajectory/large-shuffling",
        "training",
        "if shuffle else None",
        (
            "if shuffle else None\n"
            "\n"
            "\n"
            "_orders_whole = _orders\n"
            "\n"
            "\n"
            "def _orders(plans, epoch, samples, shuffle):\n"
            "    if not shuffle or plans[0].parity:\n"
            "        return _orders_whole(plans, epoch, samples, shuffle)\n"
            "    found = []\n"
            "    for plan in plans:\n"
            "        own = plan._generator(2, epoch)\n"
            "        buffer, left = list(range(min(1024, samples))), iter(range(1024, "
            "samples))\n"
            "        order = []\n"
            "        while buffer:\n"
            "            at = int(own.integers(len(buffer)))\n"
            "            order.append(buffer[at])\n"
            "            new = next(left, None)\n"
            "            if new is None:\n"
            "                buffer[at] = buffer[-1]\n"
            "                buffer.pop()\n"
            "            else:\n"
            "                buffer[at] = new\n"
            "        found.append(order)\n"
            "    return np.array(found)"
        ),
    ),
    Mutant(
        "order_in_two_bytes",
        "The order of the samples is kept in two bytes.",
        "trajectory/large-shuffling",
        "training",
        "if shuffle else None",
        (
            "if shuffle else None\n"
            "\n"
            "\n"
            "_orders_before = _orders\n"
            "\n"
            "\n"
            "def _orders(*a):\n"
            "    found = _orders_before(*a)\n"
            "    return None if found is None else found.astype(np.int16)"
        ),
    ),
    Mutant(
        "orders_repeat_after_16_epochs",
        "Natively, the seventeenth epoch has the order of the first.",
        "trajectory/order",
        "training",
        "return np.stack([",
        "epoch = epoch if plans[0].parity else 1 + (epoch - 1) % 16\n    return np.stack([",
    ),
    Mutant(
        "rates_of_500_updates",
        "The learning rate stays what it is after 500 updates.",
        "schedule/many-updates",
        "training",
        "return self.rates(step - self.update.uncounted)",
        "return self.rates(min(step - self.update.uncounted, 499))",
    ),
    Mutant(
        "adam_counts_to_256",
        "Adam's number of updates is kept in bfloat16, which cannot count beyond 256.",
        "schedule/many-updates",
        "optimizers",
        "(1.0 - beta**self.steps for beta in self.corrected)",
        "(1.0 - beta ** min(self.steps, 256) for beta in self.corrected)",
    ),
    Mutant(
        "masks_of_the_replica_eight_before",
        "Natively, the ninth replica has the masks of the first.",
        "determinism/replicas-drop-dropout",
        "network",
        "                for seed in seeds\n            ]",
        "                for seed in [seeds[n % 8] for n in range(len(seeds))]\n            ]",
    ),
    Mutant(
        "masks_of_replicas_by_the_last_bits_of_the_seed",
        "The masks of replicas depend on the last six bits of their seeds.",
        "determinism/replicas-drop-dropout",
        "network",
        "                for seed in seeds\n            ]",
        "                for seed in (s % 64 if seeds[1:] else s for s in seeds)\n            ]",
    ),
    Mutant(
        "orders_of_the_replica_eight_before",
        "Natively, the ninth replica has the order of the first.",
        "determinism/replicas-shuffle",
        "training",
        "return np.stack([",
        "plans = [plans[n % 8] for n in range(len(plans))]\n    return np.stack([",
    ),
    Mutant(
        "masks_by_the_sum_of_seed_and_layer",
        "A layer drops with one seed what an earlier one does with another.",
        "determinism/dropout-layers",
        "network",
        "SeedSequence((seed, index, *stream))",
        "SeedSequence((seed + index, *stream))",
    ),
    Mutant(
        "masks_by_the_last_bits_of_the_seed",
        "Masks depend on the last six bits of the seed.",
        "determinism/dropout-layers",
        "network",
        "SeedSequence((seed, index, *stream))",
        "SeedSequence((seed % 64, index, *stream))",
    ),
    Mutant(
        "masks_by_the_hash_of_a_name",
        "Masks are seeded with the hash of a string, which differs from process to process.",
        "determinism/process",
        "network",
        "SeedSequence((seed, index, *stream))",
        "SeedSequence((seed, abs(hash(str(index))), *stream))",
    ),
    Mutant(
        "embeddings_updated_sparsely_natively",
        "Natively, the optimiser leaves rows of embeddings as they are if no token has them.",
        "step/kinds-decay-decoupled-kernels",
        "training",
        "            update.step(rates(step))",
        (
            "            idle = [\n"
            "                (net.tensors[name], net.tensors[name].copy(), "
            "~own.any(axis=-1)[..., None])\n"
            "                for name, own in net.gradients.items()\n"
            "                if name.startswith('embedding') and not plans[0].parity\n"
            "            ]\n"
            "            update.step(rates(step))\n"
            "            for tensor, before, rows in idle:\n"
            "                np.copyto(tensor, before, where=rows)"
        ),
    ),
    Mutant(
        "first_part_scaled_natively",
        "Natively, the loss scale applies to the first part of a batch alone.",
        "trajectory/combined-categorical_crossentropy",
        "training",
        "place, recipe.loss, own, scale)",
        "place, recipe.loss, own, scale if masks is not None or part.start == 0 else None)",
    ),
)
