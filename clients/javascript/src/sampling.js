// How tokens are chosen, in the units that people give and in those of the chain.

import { stringToHex } from '@polkadot/util'

/** Bytes as polkadot.js takes them: a plain string could be read as hexadecimal. */
export function utf8(text) {
	return stringToHex(text)
}

/** A publisher's advice in the units of {@link chat}'s `sampling`; what it does not say is left out. */
export function advice(stored) {
	const said = {}
	for (const name of ['temperature', 'topP', 'minP', 'repetitionPenalty']) {
		if (stored[name].isSome) said[name] = stored[name].unwrap().toNumber() / 1000
	}
	if (stored.topK.isSome) said.topK = stored.topK.unwrap().toNumber()
	return said
}

/** What changes nothing. */
const NOTHING = { topK: 0, minP: 0, repetitionPenalty: 1, presencePenalty: 0, frequencyPenalty: 0, logitBias: {} }

/** The rules by which this client's constraints become masks: `CONSTRAINT_RULES` of the chain it was made for. */
export const CONSTRAINT_RULES = 1

/** Most bytes of a constraint. */
const LONGEST_CONSTRAINT = 8192

/**
 * What an answer may be, as the chain takes it: `{ rules, form, text }` out of one of `jsonSchema` (an object), `regex` and `lark` (text);
 * null out of none. The answer is held to it by whoever writes it and by whoever checks it.
 */
export function constraint({ jsonSchema, regex, lark } = {}) {
	const given = [
		['JsonSchema', jsonSchema && JSON.stringify(jsonSchema)],
		['Regex', regex],
		['Lark', lark],
	].filter(([, text]) => text !== undefined && text !== null)
	if (given.length === 0) return null
	if (given.length > 1) throw new Error('a constraint is one of jsonSchema, regex and lark')
	const [[form, text]] = given
	const bytes = new TextEncoder().encode(text).length
	if (bytes === 0 || bytes > LONGEST_CONSTRAINT)
		throw new Error(`the constraint has ${bytes} bytes, and may have 1 to ${LONGEST_CONSTRAINT}`)
	return { rules: CONSTRAINT_RULES, form, text: utf8(text) }
}

/**
 * How tokens are chosen, as the chain takes it: thousandths. Out of `{ temperature, topP, stop, topK, minP, repetitionPenalty,
 * presencePenalty, frequencyPenalty, logitBias }` as in the OpenAI API and Hugging Face's library, `logitBias` being an object of token
 * ids; what is left out is greedy and changes nothing. A name that is not among these throws.
 */
export function sampling(maxTokens, { temperature = 0, topP = 1, stop = [], ...rest } = {}) {
	for (const name of Object.keys(rest)) {
		if (!(name in NOTHING)) throw new Error(`${name} is no parameter of sampling: there are ${Object.keys(NOTHING).join(', ')}`)
	}
	const given = { ...NOTHING, ...rest }
	const thousandths = (value) => Math.round(value * 1000)
	const biases = Object.entries(given.logitBias).map(([token, bias]) => {
		if (!/^\d+$/.test(token)) throw new Error(`logitBias: ${token} is no token id`)
		return [Number(token), thousandths(bias)]
	})
	const idle = Object.keys(NOTHING).every((name) => name === 'logitBias' || given[name] === NOTHING[name])
	const processing = {
		topK: given.topK,
		minP: thousandths(given.minP),
		repetitionPenalty: thousandths(given.repetitionPenalty),
		presencePenalty: thousandths(given.presencePenalty),
		frequencyPenalty: thousandths(given.frequencyPenalty),
		logitBias: biases.sort(([a], [b]) => a - b),
	}
	return {
		maxTokens,
		temperature: thousandths(temperature),
		topP: thousandths(topP),
		stop: [stop].flat().map(utf8),
		processing: idle && biases.length === 0 ? null : processing,
	}
}
