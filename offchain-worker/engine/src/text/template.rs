//! Chat templates, with the hub's conventions.

use consilience_primitives::request::Unanswerable;
use minijinja::{context, Environment, Error, ErrorKind};

use crate::EngineError;

/// A compiled chat template.
pub(crate) struct Template {
	environment: Environment<'static>,
	bos: Option<String>,
	eos: Option<String>,
}

impl Template {
	/// Compiles a template.
	pub(crate) fn new(
		source: String,
		bos: Option<String>,
		eos: Option<String>,
	) -> Result<Self, EngineError> {
		let mut environment = Environment::new();
		environment.set_trim_blocks(true);
		environment.set_lstrip_blocks(true);
		environment
			.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
		environment.add_function("raise_exception", |why: String| -> Result<String, Error> {
			Err(Error::new(ErrorKind::InvalidOperation, why))
		});
		// Time may not enter a prompt that others have to reproduce.
		environment.add_function("strftime_now", |_format: String| -> Result<String, Error> {
			Err(Error::new(
				ErrorKind::InvalidOperation,
				"a prompt cannot depend on the time",
			))
		});
		environment
			.add_template_owned("chat", source)
			.map_err(|e| EngineError::Mismatch(format!("chat template: {e:#}")))?;
		Ok(Self {
			environment,
			bos,
			eos,
		})
	}

	/// The prompt for these messages, ending where the assistant is to speak.
	pub(crate) fn render(&self, messages: &[(&str, String)]) -> Result<String, EngineError> {
		let messages: Vec<_> = messages
			.iter()
			.map(|(role, content)| context! { role, content })
			.collect();
		self.environment
			.get_template("chat")
			.and_then(|t| {
				t.render(context! {
					messages,
					add_generation_prompt => true,
					bos_token => self.bos.clone().unwrap_or_default(),
					eos_token => self.eos.clone().unwrap_or_default(),
				})
			})
			.map_err(|e| {
				EngineError::Unanswerable(
					Unanswerable::TemplateRefused,
					format!("the chat template refuses these messages: {e:#}"),
				)
			})
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn python_methods_and_exceptions() {
		let source = "{% for m in messages %}\n{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}\n<|{{ m['role'] }}|>{{ m['content'].strip() + eos_token }}\n{% endfor %}\n{% if add_generation_prompt %}<|assistant|>{% endif %}";
		let template = Template::new(source.into(), None, Some("</s>".into())).unwrap();
		assert_eq!(
			template.render(&[("user", " hi ".into())]).unwrap(),
			"<|user|>hi</s>\n<|assistant|>"
		);
		let error = template
			.render(&[("system", "x".into())])
			.unwrap_err()
			.to_string();
		assert!(error.contains("no system"), "{error}");
	}
}
