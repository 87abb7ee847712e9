//! What a template may consist of: expressions, `if` and `for`. So no value can be built up step by step, and what an
//! expression can grow to is bounded by what stands in it.

use minijinja::{
    machinery::{
        Span, WhitespaceConfig,
        ast::{BinOpKind, CallArg, Expr, Stmt},
        parse,
    },
    syntax::SyntaxConfig,
};

use super::{
    TemplateError, at,
    functions::{FILTERS, FUNCTION, TESTS},
    place,
};

/// How many values a template may put together, by `~`, `+`, and in lists and maps.
const JOINTS: usize = 256;

/// What is wrong with a template.
pub(super) enum CheckError {
    /// It cannot be read.
    Unreadable(minijinja::Error),
    /// It has something that is not for templates here.
    Refused(Span, String),
}

impl CheckError {
    pub(super) fn at(self, key: &str, source: &str) -> TemplateError {
        match self {
            Self::Unreadable(error) => at(key, source, &error),
            Self::Refused(span, what) => TemplateError {
                key: key.to_owned(),
                place: Some(place(source, span.start_offset as usize)),
                what,
            },
        }
    }
}

/// Whether `source` is a template of ours.
pub(super) fn check(source: &str) -> Result<(), CheckError> {
    let whitespace = WhitespaceConfig {
        keep_trailing_newline: true,
        ..WhitespaceConfig::default()
    };
    let parsed = parse(source, "", SyntaxConfig, whitespace).map_err(CheckError::Unreadable)?;
    let mut walk = Walk { joints: 0 };
    walk.statement(&parsed)
}

struct Walk {
    joints: usize,
}

type Checked = Result<(), CheckError>;

fn refused(span: Span, what: &str) -> Checked {
    Err(CheckError::Refused(span, what.to_owned()))
}

fn unknown(span: Span, what: &str, name: &str) -> Checked {
    let name: String = name.chars().take(60).collect();
    let what = format!("there is no {what} {name} (docs/templates.md lists what there is)");
    Err(CheckError::Refused(span, what))
}

impl Walk {
    fn statements(&mut self, all: &[Stmt<'_>]) -> Checked {
        all.iter().try_for_each(|one| self.statement(one))
    }

    fn statement(&mut self, statement: &Stmt<'_>) -> Checked {
        const NOT_HERE: &str =
            "of the statements there are if and for (docs/templates.md lists what there is)";
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitExpr(emit) => self.expression(&emit.expr),
            Stmt::EmitRaw(_) => Ok(()),
            Stmt::IfCond(condition) => {
                self.expression(&condition.expr)?;
                self.statements(&condition.true_body)?;
                self.statements(&condition.false_body)
            }
            Stmt::ForLoop(each) => {
                if each.recursive {
                    return refused(each.span(), "there are no recursive loops");
                }
                self.expression(&each.target)?;
                self.expression(&each.iter)?;
                if let Some(filter) = &each.filter_expr {
                    self.expression(filter)?;
                }
                self.statements(&each.body)?;
                self.statements(&each.else_body)
            }
            Stmt::WithBlock(s) => refused(s.span(), NOT_HERE),
            Stmt::Set(s) => refused(s.span(), NOT_HERE),
            Stmt::SetBlock(s) => refused(s.span(), NOT_HERE),
            Stmt::AutoEscape(s) => refused(s.span(), NOT_HERE),
            Stmt::FilterBlock(s) => refused(s.span(), NOT_HERE),
            Stmt::Do(s) => refused(s.span(), NOT_HERE),
            // Another crate may turn on what this one leaves off.
            #[allow(unreachable_patterns)]
            _ => refused(Span::default(), NOT_HERE),
        }
    }

    fn joint(&mut self, span: Span, how_many: usize) -> Checked {
        self.joints += how_many;
        if self.joints > JOINTS {
            let what = format!("it puts more than {JOINTS} values together");
            return Err(CheckError::Refused(span, what));
        }
        Ok(())
    }

    fn expressions<'a>(&mut self, all: impl IntoIterator<Item = &'a Expr<'a>>) -> Checked {
        all.into_iter().try_for_each(|one| self.expression(one))
    }

    fn expression(&mut self, expression: &Expr<'_>) -> Checked {
        match expression {
            Expr::Var(_) | Expr::Const(_) => Ok(()),
            Expr::Slice(slice) => {
                self.expression(&slice.expr)?;
                let bounds = [&slice.start, &slice.stop, &slice.step];
                self.expressions(bounds.into_iter().flatten())
            }
            Expr::UnaryOp(operation) => self.expression(&operation.expr),
            Expr::BinOp(operation) => {
                match operation.op {
                    // A short text times a large number is a long one.
                    BinOpKind::Mul | BinOpKind::Pow => {
                        return refused(operation.span(), "there are no * and **");
                    }
                    BinOpKind::Add | BinOpKind::Concat => self.joint(operation.span(), 1)?,
                    _ => {}
                }
                self.expressions([&operation.left, &operation.right])
            }
            Expr::Compare(comparison) => {
                self.expression(&comparison.expr)?;
                self.expressions(comparison.ops.iter().map(|op| &op.expr))
            }
            Expr::IfExpr(choice) => {
                self.expressions([&choice.test_expr, &choice.true_expr])?;
                self.expressions(&choice.false_expr)
            }
            Expr::Filter(filter) => {
                if !FILTERS.contains(&filter.name) {
                    return unknown(filter.span(), "filter", filter.name);
                }
                self.expressions(&filter.expr)?;
                self.arguments(&filter.args)
            }
            Expr::Test(test) => {
                if !TESTS.contains(&test.name) {
                    return unknown(test.span(), "test", test.name);
                }
                self.expression(&test.expr)?;
                self.arguments(&test.args)
            }
            Expr::GetAttr(get) => self.expression(&get.expr),
            Expr::GetItem(get) => self.expressions([&get.expr, &get.subscript_expr]),
            Expr::Call(call) => {
                match &call.expr {
                    Expr::Var(function) if function.id == FUNCTION => {}
                    Expr::Var(function) => {
                        return unknown(call.span(), "function", function.id);
                    }
                    _ => return refused(call.span(), "there are no methods"),
                }
                self.arguments(&call.args)
            }
            Expr::List(list) => {
                self.joint(list.span(), list.items.len())?;
                self.expressions(&list.items)
            }
            Expr::Map(map) => {
                self.joint(map.span(), map.keys.len() + map.values.len())?;
                self.expressions(map.keys.iter().chain(&map.values))
            }
        }
    }

    fn arguments(&mut self, arguments: &[CallArg<'_>]) -> Checked {
        arguments.iter().try_for_each(|argument| match argument {
            CallArg::Pos(value)
            | CallArg::Kwarg(_, value)
            | CallArg::PosSplat(value)
            | CallArg::KwargSplat(value) => self.expression(value),
        })
    }
}
